"""SPOILERS. Answers that students hand in, for the graders' own test: right ones, and wrong ones with what must be said.

A right answer is a whole body, written in another way than the reference. A wrong one is the reference with one slip.
"""

from dataclasses import dataclass, field
from textwrap import dedent

from common import CONCEPTS, DDPG, DQN, ROOT, find_function


@dataclass
class Answer:
    concept: str
    script: str
    given: str  # the body; "": the reference's, with edits
    phrase: str | None  # that the grader's message must hold; None: the answer is right
    edits: tuple = field(default=())

    @property
    def body(self) -> str:
        if self.given:
            return self.given
        source = (ROOT / self.script).read_text()
        function = find_function(source, CONCEPTS[self.concept][self.script])
        first = function.body[1 if self.concept != "stack_frames" else 0]  # after the docstring
        body = dedent("\n".join(source.splitlines()[first.lineno - 1:function.end_lineno]))
        for old, new in self.edits:
            assert body.count(old) == 1, (self.concept, self.script, old)
            body = body.replace(old, new)
        return body


ANSWERS = []


def right(concept: str, script: str, body: str) -> None:
    ANSWERS.append(Answer(concept, script, dedent(body).strip("\n"), None))


def wrong(concept: str, scripts: str | tuple, phrase: str, *edits: tuple[str, str]) -> None:
    """The reference's body with each old text replaced by the new one."""
    for script in [scripts] if isinstance(scripts, str) else scripts:
        ANSWERS.append(Answer(concept, script, "", phrase, edits))


BOTH = (DDPG, DQN)

# --------------------------------------------------------------------------------------------- n_step_return
wrong("n_step_return", DDPG, "This is gamma, where gamma^n is meant", ("return total, discount, k", "return total, gamma, k"))
wrong("n_step_return", DQN, "bootstraps there, with gamma^k", ("return total, 0.0, k", "return total, discount, k"))
wrong("n_step_return", DDPG, "belong to the next game",
      ("return total, 0.0, k", "ended = True"), ("return total, discount, k", "return total, 0.0 if any(terminations) else discount, k"))
wrong("n_step_return", DDPG, "The reward of the step that terminates counts", ("total + discount * reward", "total + discount * reward * (not terminated)"))
wrong("n_step_return", DDPG, "These rewards are not discounted", ("total + discount * reward", "total + reward"))
wrong("n_step_return", DDPG, "The first reward is not discounted", ("total, discount, k = 0.0, 1.0, 0", "total, discount, k = 0.0, gamma, 0"))
wrong("n_step_return", DDPG, "takes truncation for termination", ("return total, discount, k", "return total, discount * (k != 2), k"))
wrong("n_step_return", DDPG, "gamma^k is meant, with the k of this window", ("return total, discount, k", "return total, gamma ** (3 if k == 2 else k), k"))
wrong("n_step_return", DDPG, "the order is G_t, the discount, k", ("return total, discount, k", "return total, k, discount"), ("return total, 0.0, k", "return total, k, 0.0"))
wrong("n_step_return", DDPG, "k counts the steps up to it", ("return total, 0.0, k", "return total, 0.0, len(rewards)"))
for phrase, first in {"0, its index, is false": "next((i for i, ended in enumerate(terminations) if ended), None)",
                      "the first one ends the window": "max((i for i, ended in enumerate(terminations) if ended), default=-1)"}.items():
    truth = "found is not None and found" if phrase[0] == "0" else "found >= 0"
    ANSWERS.append(Answer("n_step_return", DDPG, dedent(f"""
        found = {first}
        ended = bool({truth})
        k = found + 1 if ended else len(rewards)
        total = sum(gamma**i * rewards[i] for i in range(k))
        return total, 0.0 if ended else gamma**k, k
    """).strip(), phrase))
right("n_step_return", DDPG, """
    ends = [i + 1 for i, terminated in enumerate(terminations) if terminated]
    k = ends[0] if ends else len(rewards)
    value = 0.0
    for reward in reversed(list(rewards[:k])):  # Horner, from the back
        value = reward + gamma * value
    return value, (0.0 if ends else gamma**k), k
""")
right("n_step_return", DQN, """
    done = np.array(list(terminations), dtype=bool)
    k = int(np.argmax(done)) + 1 if done.any() else len(done)
    total = float(np.dot(float(gamma) ** np.arange(k), np.array(list(rewards[:k]), dtype=float)))
    return total, 0.0 if done.any() else float(gamma) ** k, k
""")

# ---------------------------------------------------------------------------------------- importance_weights
WEIGHTS = "return (priorities / priorities.min(axis=-1, keepdims=True)) ** -beta"
for phrase, body in {
    "This divides by the largest of all batches": "w = priorities ** -beta\nreturn w / w.max(initial=0)",
    "The exponent is -beta": "return (priorities / priorities.max(axis=-1, keepdims=True)) ** beta",
    "beta is not used": "return priorities.min(axis=-1, keepdims=True) / priorities",
    "These are not normalised": "n = priorities.shape[-1]\nreturn (n * priorities / priorities.sum(-1, keepdims=True)) ** -beta",
    "This makes each row's sum 1": "w = priorities ** -beta\nreturn w / w.sum(axis=-1, keepdims=True)",
    "this divides by the smallest weight": "return (priorities / priorities.max(axis=-1, keepdims=True)) ** -beta",
    "in each column": "w = priorities ** -beta\nreturn w / w.max(axis=0, initial=0)",
    "not -(1 - beta)": "return (priorities / priorities.min(axis=-1, keepdims=True)) ** (beta - 1)",
    "It changed the priorities": "priorities /= priorities.min(axis=-1, keepdims=True)\nreturn priorities ** -beta",
}.items():
    ANSWERS.append(Answer("importance_weights", DDPG, body, phrase))
ANSWERS.append(Answer("importance_weights", DDPG, "p = torch.from_numpy(priorities)\nreturn (p / p.min(-1, keepdim=True)[0]) ** -beta", "An array of numpy is meant"))
right("importance_weights", DQN, """
    w = np.power(priorities.shape[-1] * priorities / priorities.sum(axis=-1, keepdims=True), -beta)
    return w / w.max(axis=-1, keepdims=True)
""")
right("importance_weights", DDPG, """
    result = np.zeros(priorities.shape)
    for i, row in enumerate(priorities):
        for j, priority in enumerate(row):
            result[i, j] = (min(row) / priority) ** beta
    return result
""")

# ------------------------------------------------------------------------------------------------- td_target
BEST = "q_network(next_states).argmax(1, keepdim=True)"
NEXT = "target_network(next_states).gather(1, best_actions).squeeze(1)"
for phrase, edit in {
    "This is DQN, not double DQN": (NEXT, "target_network(next_states).max(1).values"),
    "its value must come from the target network": (NEXT, "q_network(next_states).max(1).values"),
    "squeeze what gather returns": (".squeeze(1)", ""),
    "Returns are not discounted again": ("returns + discounts * next_q", "discounts * (returns + next_q)"),
    "The discounts are not used": ("discounts * next_q", "next_q"),
    "This uses gamma = 0.99 for all": ("discounts * next_q", "0.99 * next_q"),
    "This is the mean over the actions": (NEXT, "target_network(next_states).mean(1)"),
    "it is the factor itself, not 1 minus it": ("discounts * next_q", "(1 - discounts) * next_q"),
    "as in TD3": (NEXT, "torch.minimum(q_network(next_states).max(1)[0], target_network(next_states).max(1)[0])"),
    "this takes one for the whole batch": (NEXT, "target_network(next_states)[:, int(q_network(next_states).argmax()) % 3]"),
}.items():
    wrong("td_target", DQN, phrase, edit)
wrong("td_target", DQN, "The roles are swapped", (BEST, "target_network(next_states).argmax(1, keepdim=True)"),
      (NEXT, "q_network(next_states).gather(1, best_actions).squeeze(1)"))
wrong("td_target", DQN, "The target carries a gradient", ("best_actions = ", "torch.set_grad_enabled(True)\nbest_actions = "))
for phrase, edit in {
    "The discounts are not used": ("discounts * next_q", "next_q"),
    "Returns are not discounted again": ("returns + discounts * next_q", "discounts * (returns + next_q)"),
    "(3,) is meant": ("returns + discounts * next_q", "returns + discounts * next_q[:, None]"),
    "this takes the batch's largest": ("discounts * next_q", "discounts * next_q.max()"),
    "The returns are missing": ("returns + discounts", "discounts"),
    "there is noise in them": ("target_actor(next_states))", "target_actor(next_states) + torch.randn(len(returns), 1))"),
}.items():
    wrong("td_target", DDPG, phrase, edit)
right("td_target", DQN, """
    choosing, valuing = q_network(next_states), target_network(next_states)
    return torch.stack([returns[i] + discounts[i] * valuing[i, int(choosing[i].argmax())] for i in range(len(returns))])
""")
right("td_target", DQN, """
    online_q = q_network(next_states)
    chosen = torch.nn.functional.one_hot(online_q.argmax(dim=-1), online_q.shape[-1]).bool()
    masked = torch.where(chosen, target_network(next_states), torch.zeros_like(online_q))
    return torch.addcmul(returns, discounts, masked.sum(dim=-1))
""")
right("td_target", DDPG, """
    values = []
    for i in range(len(next_states)):
        state = next_states[i:i + 1]
        values.append(returns[i] + discounts[i] * target_critic(state, target_actor(state))[0])
    return torch.stack(values)
""")

# ------------------------------------------------------------------------------------------------- surpassed
THRESHOLD = "rbar + (ratio - 1) * abs(rbar)"
COUNTING = f"""\
threshold = {THRESHOLD}
in_a_row = 0
for r in evaluations:
    in_a_row = in_a_row + 1 if r >= threshold else 0
    if in_a_row == patience:
        return True
return False
"""
COUNT = "in_a_row = in_a_row + 1 if r >= threshold else 0"
for phrase, (old, new) in {
    "This is the literal alpha * rbar": (THRESHOLD, "ratio * rbar"),
    "alpha * abs(rbar) would be above 0": (THRESHOLD, "ratio * abs(rbar)"),
    "These are better than rbar / alpha": (THRESHOLD, "rbar * (ratio if rbar >= 0 else 1 / ratio)"),
    "is the ratio used?": (THRESHOLD, "rbar"),
    "equal is enough": ("r >= threshold", "r > threshold"),
    "high enough in all, but not in a row": (COUNT, "in_a_row = in_a_row + (r >= threshold)"),
    "begins the count anew, from 0": (COUNT, "in_a_row = in_a_row + 1 if r >= threshold else max(0, in_a_row - 1)"),
    "is patience used?": ("in_a_row == patience", "in_a_row == 1"),
    "and patience is 3": ("in_a_row == patience", "in_a_row > patience"),
    "It returned None: is there a return?": ("return False", "pass"),
    "looks only at the newest evaluations": ("in_a_row = 0\n", "in_a_row, evaluations = 0, evaluations[-patience:]\n"),
    "Their mean is high enough": ("in_a_row = 0\n", "return bool(len(evaluations) >= patience and "
                                  "np.mean(evaluations[-patience:]) >= threshold)\n"),
    "fewer than patience are never enough": ("in_a_row = 0\n", "return all(r >= threshold for r in evaluations[-patience:])\n"),
}.items():
    assert old in COUNTING
    ANSWERS.append(Answer("surpassed", DDPG, COUNTING.replace(old, new, 1), phrase))
right("surpassed", DDPG, COUNTING)
right("surpassed", DQN, """
    bar = rbar * ratio if rbar >= 0 else rbar * (2 - ratio)
    word = "".join("x" if r >= bar or abs(r - bar) < 1e-12 else "." for r in evaluations)
    return "x" * patience in word
""")

# ------------------------------------------------------------------------------------------------ actor_loss
LOSS = "return -critic(states, actor(states)).mean()"
for phrase, body in {
    "The minus is missing": "return critic(states, actor(states)).mean()",
    "This is the sum": "return -critic(states, actor(states)).sum()",
    "The loss has no gradient": "with torch.no_grad():\n    q = critic(states, actor(states))\nreturn -q.mean()",
    "its actions must not be detached": "return -critic(states, actor(states).detach()).mean()",
    "one number a state": "return -critic(states, actor(states))",
    "not minus its square": "return -(critic(states, actor(states)) ** 2).mean()",
    "q may be below 0": "return -critic(states, actor(states)).abs().mean()",
    "the best one of the batch": "return -critic(states, actor(states)).max()",
    "states (B, 1, n) first": "return -critic(actor(states), states).mean()",
    "switched off the critic's gradients": "critic.requires_grad_(False)\nreturn -critic(states, actor(states)).mean()",
}.items():
    ANSWERS.append(Answer("actor_loss", DDPG, body, phrase))
right("actor_loss", DDPG, """
    objective = 0.0
    for i in range(len(states)):
        objective = objective + critic(states[i:i + 1], actor(states[i:i + 1])).sum()
    return -objective / len(states)
""")
right("actor_loss", DDPG, """
    q = critic(states, actor(states))
    return torch.dot(torch.full_like(q, -1.0 / q.numel()), q)
""")

# ---------------------------------------------------------------------------------------------- stack_frames
ZEROS = 'frames[back > store["episode_step"][ring + counts % args.ring_size][..., None]] = 0'
FRAMES = 'store["frame"][ring[..., None] + (counts[..., None] - back) % args.ring_size]'
for phrase, edit in {
    "they must be zeros": (ZEROS, "pass"),
    "One zero too many": (ZEROS, ZEROS.replace("back >", "back >=")),
    "The order is reversed": ("np.arange(STACK)[::-1]", "np.arange(STACK)"),
    "add `ring`, the first slot of the actor's own": (FRAMES, 'store["frame"][(counts[..., None] - back) % args.ring_size]'),
    "Is the episode_step that of this actor's record": (ZEROS, ZEROS.replace("ring + counts", "counts")),
    "is each frame's place taken % ring_size": (FRAMES, 'store["frame"][(ring[..., None] + counts[..., None] - back) % len(store)]'),
    "not the whole state": (ZEROS, 'frames[store["episode_step"][ring + counts % args.ring_size] < STACK - 1] = 0'),
    "one step too early": ("np.arange(STACK)[::-1]", "np.arange(1, STACK + 1)[::-1]"),
    "(B, 4, height, width) is meant": ("return frames", "return np.moveaxis(frames, 1, -1)"),
    "they keep the store's type": ("return frames", "return frames.astype(np.float32)"),
}.items():
    wrong("stack_frames", DQN, phrase, edit)
wrong("stack_frames", DQN, "there are zeros before it", (ZEROS, "pass"), (
    "back = np.arange(STACK)[::-1]", 'back = np.minimum(np.arange(STACK)[::-1], store["episode_step"][ring + counts % args.ring_size][..., None])'))
wrong("stack_frames", DQN, "It wrote into the store", (ZEROS, f"""{ZEROS}
step = store["episode_step"][ring + counts % args.ring_size]
for back in (3, 2, 1):
    slots = (ring + (counts - back) % args.ring_size)[step < back]
    store["frame"][slots] = 0"""))
wrong("stack_frames", DQN, "nor, where gather asks for the next states, that of `slots`", (ZEROS, 'frames[back > store["episode_step"][slots][..., None]] = 0'))
wrong("stack_frames", DQN, "nor each frame's own", (
    ZEROS, 'frames[back > store["episode_step"][ring[..., None] + (counts[..., None] - back) % args.ring_size]] = 0'))
wrong("stack_frames", DQN, "do not tell where the game began", (ZEROS, """step = store["episode_step"][ring[..., None] + (counts[..., None] - back) % args.ring_size]
frames[step > step[..., -1:]] = 0"""))
right("stack_frames", DQN, """
    out = np.zeros(counts.shape + (STACK,) + store["frame"].shape[1:], store["frame"].dtype)
    for where in np.ndindex(*counts.shape):
        count, first = int(counts[where]), int(ring[where])
        for back in range(min(STACK, int(store["episode_step"][first + count % args.ring_size]) + 1)):
            out[where + (STACK - 1 - back,)] = store["frame"][first + (count - back) % args.ring_size]
    return out
""")
right("stack_frames", DQN, """
    step, columns = store["episode_step"][ring + np.mod(counts, args.ring_size)], []
    for back in range(STACK - 1, -1, -1):
        frame = store["frame"][ring + np.mod(counts - back, args.ring_size)]
        keep = (step >= back).reshape(step.shape + (1,) * (frame.ndim - step.ndim))
        columns.append(np.where(keep, frame, np.zeros_like(frame)))
    return np.stack(columns, axis=counts.ndim)
""")

# ----------------------------------------------------------------------------------------------- exploration
SHARE = "1.0 if index >= args.num_nature_actors else index / max(1, args.num_nature_actors - 1)"
for phrase, new in {
    "divides by the number of actors": SHARE.replace(" - 1)", ")"),
    "counts the prior actors too": "index / (args.num_actors - 1)",
    "The line goes on beyond the last nature actor": SHARE.replace("1.0 if index >= args.num_nature_actors else ", ""),
    "The order is reversed (or": f"1 - ({SHARE})",
    "All nature actors get the first one's": "0.0 if index < args.num_nature_actors else 1.0",
    "it is to explore least": SHARE.replace("1.0 if", "0.0 if"),
    "ZeroDivisionError": SHARE.replace("max(1, args.num_nature_actors - 1)", "(args.num_nature_actors - 1)"),
}.items():
    wrong("exploration", BOTH, phrase, (SHARE, new))
FALL = "min(1.0, global_step / args.exploration_steps)"
for phrase, new in {"It goes on falling": "global_step / args.exploration_steps", "It does not fall": "0",
                    "not over all steps": "min(1.0, global_step / args.total_timesteps)"}.items():
    wrong("exploration", DQN, phrase, (FALL, new))
wrong("exploration", DQN, "prior_epsilon is no longer its own", ("share = ", "if index >= args.num_nature_actors:\n    return args.prior_epsilon\nshare = "))
wrong("exploration", DQN, "A retired prior's epsilon falls, too", ("share = ", "if index >= args.num_nature_actors:\n    return args.min_start_e\nshare = "))
wrong("exploration", DQN, "with 1 nature actors", ("share = ", "if args.num_nature_actors == 1:\n    index = 1\nshare = "))
wrong("exploration", DQN, "not exponentially", (f"return start + {FALL} * (args.end_e - start)", f"return start * (args.end_e / start) ** {FALL}"))
wrong("exploration", BOTH, "with 0 nature actors", ("index >= args.num_nature_actors", "index >= max(1, args.num_nature_actors)"))
right("exploration", DQN, """
    n = args.num_nature_actors
    first = args.min_start_e if index >= n else float(np.linspace(args.start_e, args.min_start_e, n)[index])
    return float(np.interp(global_step, [0, args.exploration_steps], [first, args.end_e]))
""")
right("exploration", DDPG, """
    if index >= args.num_nature_actors:
        return args.min_noise
    return float(np.linspace(args.max_noise, args.min_noise, args.num_nature_actors)[index])
""")

# -------------------------------------------------------------------------------------------------- sum_tree
for phrase, edit in {
    "one that equals a sum belongs to the next slot": ("values >= left_sums", "values > left_sums"),
    "the left child's sum must be subtracted": ("values -= left_sums * go_right", "pass"),
    "nothing on the way to the left": ("values -= left_sums * go_right", "values -= left_sums"),
    "It changed the values": ("values.copy()", "values"),
    "These are node numbers": ("return nodes - self.leaves", "return nodes"),
    "never go into a branch whose sum is 0": ("(values >= left_sums) & (self.nodes[nodes + 1] > 0)", "values >= left_sums"),
    "Below the left child's sum, go left": ("values >= left_sums", "values < left_sums"),
    "this crashes then": ("for _ in range(self.depth)", "while nodes[0] < self.leaves"),
}.items():
    wrong("sum_tree", DDPG, phrase, edit)
wrong("sum_tree", DDPG, "It changed the tree", ("left_sums = self.nodes[nodes]", "left_sums = self.nodes[nodes]\n    self.nodes[1] += 0.5"))
LOOP = """
    slots = []
    for value in values:
        node = 1
        while node < self.leaves:
            node *= 2
            if value >= self.nodes[node] and self.nodes[node + 1] > 0:
                value = value - self.nodes[node]
                node += 1
        slots.append(node - self.leaves)
"""
for script, last, phrase in ((DDPG, "return slots", "Slots came as list"), (DQN, "return np.array(slots)", "of no values float64")):
    ANSWERS.append(Answer("sum_tree", script, dedent(LOOP + "    " + last).strip("\n"), phrase))
RUNNING_SUM = "sums = np.cumsum(self.nodes[self.leaves:])\nreturn np.searchsorted(sums, np.minimum(values, np.nextafter(sums[-1], 0)), side='right')"
for script in BOTH:
    ANSWERS.append(Answer("sum_tree", script, RUNNING_SUM, "It must look at the inner nodes"))
right("sum_tree", DDPG, """
    slots = np.zeros(len(values), np.int64)
    for i, value in enumerate(values):
        node, rest = 1, float(value)
        while node < self.leaves:
            node *= 2
            if not (rest < self.nodes[node] or self.nodes[node + 1] <= 0):
                rest -= self.nodes[node]
                node += 1
        slots[i] = node - self.leaves
    return slots
""")
right("sum_tree", DDPG, """
    values = values % self.nodes[1]  # a value equal to the total begins anew, from the left
    nodes = np.ones(len(values), np.int64)
    for _ in range(self.depth):
        nodes = 2 * nodes
        left = self.nodes[nodes]
        right = (values >= left) & (self.nodes[nodes + 1] > 0)
        values = values - left * right
        nodes = nodes + right
    return nodes - self.leaves
""")
right("sum_tree", DQN, """
    def descend(node, rest, which):  # all values that came to this node, together
        if len(which) == 0 or node >= self.leaves:
            found[which] = node - self.leaves
            return
        go_left = (rest < self.nodes[2 * node]) | (self.nodes[2 * node + 1] <= 0)
        descend(2 * node, rest[go_left], which[go_left])
        descend(2 * node + 1, rest[~go_left] - self.nodes[2 * node], which[~go_left])

    found = np.empty(len(values), np.int64)
    descend(1, np.array(values, float), np.arange(len(values)))
    return found
""")

# ------------------------------------------------------------------------------------------ first_priorities
for phrase, edit in {
    "A priority is no signed number": ("np.abs(targets - q_values[t, actions])", "targets - q_values[t, actions]"),
    "This is the squared TD error": ("np.abs(targets - q_values[t, actions])", "(targets - q_values[t, actions]) ** 2"),
    "this takes the next one": ("q_values[t + k]", "q_values[t + 1]"),
    "this takes n for all of them": ("q_values[t + k]", "q_values[t + k.max()]"),
    "not states[k]": ("q_values[t + k]", "q_values[k]"),
    "The discounts are not used": ("discounts * ", ""),
    "discounts holds gamma^k already": ("discounts * ", "discounts**k * "),
    "not the best one's": ("q_values[t, actions])", "q_values[t].max(1))"),
    "not the one that was taken there": (".max(1)", "[t, actions[np.minimum(t + k, len(t) - 1)]]"),
    "the shape (4, 4) came": ("q_values[t, actions])", "q_values[:4, actions])"),
    "reaches beyond the m transitions": ("q_values[t + k]", "q_values[np.minimum(t + k, len(t) - 1)]"),
}.items():
    wrong("first_priorities", DQN, phrase, edit)
NOW = "online.critic(states[: len(t)], torch.from_numpy(actions)).numpy()"
for phrase, edit in {
    "not the actor's now": (NOW, "next_q[: len(t)]"), "A priority is no signed number": (f"np.abs(targets - {NOW})", f"targets - {NOW}"),
    "not the one taken here": ("next_q[t + k]", "online.critic(states[t + k], torch.from_numpy(actions)).numpy()"),
    "this takes the next one": ("next_q[t + k]", "next_q[t + 1]"),
    "reaches beyond the m transitions": ("next_q[t + k]", "next_q[np.minimum(t + k, len(t) - 1)]"),
}.items():
    wrong("first_priorities", DDPG, phrase, edit)
right("first_priorities", DQN, """
    q, priorities = q_network(torch.from_numpy(states)).tolist(), []
    for t, action in enumerate(actions):
        target = float(returns[t]) + float(discounts[t]) * max(q[t + int(k[t])])
        priorities.append(abs(target - q[t][int(action)]))
    return np.array(priorities)
""")
right("first_priorities", DDPG, """
    later = torch.as_tensor(states[np.arange(len(actions)) + k])
    target = torch.as_tensor(returns) + torch.as_tensor(discounts) * online.critic(later, online.actor(later))
    q = online.critic(torch.as_tensor(states[:len(actions)]), torch.as_tensor(actions))
    return torch.sub(target, q).abs().numpy()
""")

# ----------------------------------------------------------------------------------------------- soft_update
for phrase, line in {
    "The roles of tau and 1 - tau are swapped": "t.copy_(tau * t + (1 - tau) * s)",
    "without (1 - tau) on the target": "t.add_(tau * s)",
    "This is the source: tau is not used": "t.copy_(s)",
    "Nothing happened": "t = (1 - tau) * t + tau * s",
    "The parameters have new memory": "t.data = (1 - tau) * t.data + tau * s.data",
    "only the target moves": "s.mul_(tau).add_(t, alpha=1 - tau)",
    "The bias was left out": "if t.ndim > 1: t.lerp_(s, tau)",
    "This is tau * source alone": "t.copy_(tau * s)",
    "both share one memory": "t.lerp_(s, tau) if tau < 1 else setattr(t, 'data', s.data)",
    "This moves away from the source": "t.copy_(t - tau * (s - t))",
}.items():
    ANSWERS.append(Answer("soft_update", DDPG, f"for t, s in zip(target.parameters(), source.parameters()):\n    {line}", phrase))
for phrase, body in {
    "modules() and parameters() both": "for old, new in zip(target.modules(), source.modules()):\n"
                                       "    for t, s in zip(old.parameters(), new.parameters()):\n        t.lerp_(s, tau)",
    "The target has new parameters": """
for old, new in zip(target.modules(), source.modules()):
    for name, s in list(new.named_parameters(recurse=False)):
        setattr(old, name, nn.Parameter((1 - tau) * getattr(old, name) + tau * s))""",
}.items():
    ANSWERS.append(Answer("soft_update", DQN, body, phrase))
right("soft_update", DDPG, """
    for t, s in zip(target.parameters(), source.parameters()):
        t.mul_(1.0 - tau)
        t.add_(s, alpha=tau)
""")
right("soft_update", DQN, """
    new = dict(source.named_parameters())
    mixed = {name: (1 - tau) * old + tau * new[name] for name, old in target.named_parameters()}
    target.load_state_dict(mixed, strict=False)
""")

# --------------------------------------------------------------------------------------------------- receive
RECEIVE = """\
while True:
    found = int(board["version"])
    if found == version:
        return version
    vector = torch.from_numpy(board[name].copy())
    if found % 2 == 0 and board["version"] == found:
        nn.utils.vector_to_parameters(vector, network.parameters())
        return found
    time.sleep(0.001)"""
CHECK = 'if found % 2 == 0 and board["version"] == found:'
for phrase, edit in {
    "The version was odd": (CHECK, 'if board["version"] == found:'),
    "The learner began to write during the copy": (CHECK, "if found % 2 == 0:"),
    "the version is even before and after it": (CHECK, 'if found % 2 == 0 and board["version"] % 2 == 0:'),
    "right after the check": ("board[name].copy()", "board[name]"),
    'Asked for "average", it copied another network': ("board[name]", 'board["newest"]'),
    "It copied a version that it had already": ('!= version:', ">= 0:"),
    "the caller gives it back the next time": ("        return found", "        return version"),
    "It gave up while the learner wrote": ("    time.sleep(0.001)", "    return version"),
    "in the order of network.parameters()": ("vector, network.parameters())", "vector.flip(0), network.parameters())"),
}.items():
    wrong("receive", BOTH, phrase, edit)
wrong("receive", DDPG, "It waits for ever", ('while (found := int(board["version"])) != version:', 'found = int(board["version"])\nwhile found != version:'))
ANSWERS.append(Answer("receive", DQN, """
while True:
    found = int(board["version"])
    if found == version:
        return version
    numbers = torch.from_numpy(board[name])  # no copy
    if found % 2 == 0 and board["version"] == found:
        nn.utils.vector_to_parameters(numbers.clone(), network.parameters())
        return found
    time.sleep(0.001)""".strip(), "right after the check"))
for phrase, body in {
    "before the copy: half of what was taken is new": """
while True:
    while board["version"] % 2 == 1:
        time.sleep(0.001)
    found = int(board["version"])
    if found == version:
        return version
    vector = torch.from_numpy(board[name].copy())
    if board["version"] == found:
        nn.utils.vector_to_parameters(vector, network.parameters())
        return found
    time.sleep(0.001)""",
    "right after the check": """
source = torch.from_numpy(board[name])
while True:
    found = int(board["version"])
    if found == version:
        return version
    if found % 2 == 0 and board["version"] == found:
        nn.utils.vector_to_parameters(source.clone(), network.parameters())
        return found
    time.sleep(0.001)""",
    "as the version known": "if version % 2 == 0:\n    return version\n" + RECEIVE,
    "other shapes": RECEIVE.replace("nn.utils.vector_to_parameters(vector, network.parameters())", """start = 0
        for p in network.parameters():
            p.data = vector[start:start + p.numel()]
            start += p.numel()"""),
    "another network was received": RECEIVE.replace("torch.from_numpy(board[name].copy())", (
        "receive.__dict__.setdefault(name, torch.empty(len(board[name]))).copy_(torch.from_numpy(board[name]))")),
    "It gave up while": RECEIVE.replace("while True:", "for _ in range(5):") + "\nreturn version",
    "several things": RECEIVE.replace("return found", "return found, vector"),
    "without a pause": RECEIVE.replace("    time.sleep(0.001)", "    pass"),
    "a millisecond is 0.001": RECEIVE.replace("0.001", "1"),
    "It slept, though": "time.sleep(0.001)\n" + RECEIVE,
    "return once the copy is whole": RECEIVE.replace("        return found", "        pass"),
}.items():
    ANSWERS.append(Answer("receive", DDPG, body.strip("\n"), phrase))
right("receive", DDPG, """
    found = int(board["version"])
    if found == version:
        return version
    whole = board.copy()  # more than is needed; between the two looks
    if found % 2 or board["version"] != found:
        time.sleep(0.001)
        return receive(board, name, network, version)
    nn.utils.vector_to_parameters(torch.from_numpy(whole[name]), network.parameters())
    return found
""")
right("receive", DDPG, """
    while True:
        before, start = int(board["version"]), 0
        if before == version:
            return version
        if before % 2 == 1:
            time.sleep(0.01)
            continue
        with torch.no_grad():  # straight into the network; it is used only once it is whole
            for tensor in network.parameters():
                part = board[name][start:start + tensor.numel()]
                tensor.copy_(torch.from_numpy(part).view_as(tensor))
                start += tensor.numel()
        if int(board["version"]) == before:
            return before
""")
right("receive", DQN, """
    while version != board["version"]:
        first, numbers, second = board["version"], np.array(board[name]), board["version"]
        if first != second or first & 1:
            time.sleep(0.002)
        else:
            state, start = network.state_dict(), 0
            for key, tensor in network.named_parameters():
                state[key] = torch.tensor(numbers[start:start + tensor.numel()]).reshape(tensor.shape)
                start += tensor.numel()
            network.load_state_dict(state)
            return first
    return version
""")

# ----------------------------------------------------------------------------------------------------- actor
FINAL = "            buffer.append(next_states[0], action, 0.0, False, episode_step, final=True)  # s_{t+1}\n"
for phrase, edit in {
    "must be appended with final=True": (FINAL, ""),
    "5 is the game's last state, which is final=True": ("episode_step, final=True)", "episode_step)"),
    "has episode_step 5; 0 is right": ("            episode_step, episodic_return = 0, 0.0\n", "            episodic_return = 0.0\n"),
    "(9.0, 5.0), (18.0, 5.0)": ("            episode_step, episodic_return = 0, 0.0\n", "            episode_step = 0\n"),
    "+ n = 6 are meant": ("args.local_buffer_size + args.n_step:", "args.local_buffer_size:"),
    "was stored as terminated": ("bool(terminations[0])", "bool(terminations[0] or truncations[0])"),
    "come new evaluations; ask surpassed again": ("global_step, evaluations = buffer", "global_step, _ = buffer"),
    "It yielded [40, 40, 40, 40]": ("global_step, evaluations = buffer", "_, evaluations = buffer"),
    "{2} is right, the prior's": ("bool(prior) and not surpassed(", "bool(prior) and surpassed("),
    "s_t, before the action": ("buffer.append(states[0], action,", "buffer.append(next_states[0], action,"),
    "episodes reported are []": ("            buffer.episodes.append((episodic_return, episode_step))\n", ""),
    "this one is number 6": ("_of(index, ", "_of(0, "),
    "explored differently the second time": ("default_rng([args.seed, index, first_count, global_step])", "default_rng()"),
    "Actors 3 and 6 took the same random actions": ("default_rng([args.seed, index, first_count, global_step])", "default_rng(args.seed)"),
}.items():
    wrong("actor", BOTH, phrase, edit)
for script, network in ((DDPG, "online"), (DQN, "q_network")):
    wrong("actor", script, "had not received the learner's weights", (f'"newest", {network}, version', '"newest", prior_network, version'))
for script in BOTH:  # right: no window reads whether a final record is terminated
    ANSWERS.append(Answer("actor", script, "", None, (("0.0, False, episode_step, final", "0.0, bool(terminations[0]), episode_step, final"),)))
wrong("actor", BOTH, "The environment was reset without a seed", ("env.reset(seed=int(rng.integers(2**31)))", "env.reset()"))
wrong("actor", BOTH, "reset the environment with the same seed", ("env.reset(seed=int(rng.integers(2**31)))", "env.reset(seed=args.seed)"))
wrong("actor", DDPG, "here of one", ("env.step(action[None])\n        buffer", "env.step(action)\n        buffer"))
wrong("actor", DQN, "here of one", ("env.step(np.array([action]))", "env.step(action)"))
wrong("actor", DDPG, "those of one environment", ("buffer.append(states[0], action, float", "buffer.append(states[0], action[None], float"))
wrong("actor", BOTH, "of the type int64", ("env.reset(seed=int(rng.integers(2**31)))", "env.reset(seed=rng.integers(2**31))"))
wrong("actor", DQN, "Where a game has no lives", ('over = bool(terminated and info["lives"][0] == 0 or truncations[0])', 'over = bool(info["lives"][0] == 0 or truncations[0])'))
wrong("actor", DDPG, "not Ornstein-Uhlenbeck", ("while True:\n    yield", "drift = 0.0\nwhile True:\n    yield"),
      ("        action = np.clip(action + sigma * rng.standard_normal(len(low), np.float32), low, high)",
       "        drift = 0.9 * drift + 0.4 * rng.standard_normal(len(low), np.float32)\n        action = np.clip(action + sigma * drift, low, high)"))
for script, old, new in ((DDPG, "noise_of(index, args)", "noise_of(index=index, args=args)"),
                         (DQN, "epsilon_of(index, global_step, args)", "epsilon_of(args=args, index=index, global_step=global_step)")):
    ANSWERS.append(Answer("actor", script, "", None, ((old, new),)))
wrong("actor", DQN, "those of one environment", ("buffer.append(states[0], action, np", "buffer.append(states, action, np"))
wrong("actor", DDPG, "requires grad", ("with torch.inference_mode():", "if True:"))
wrong("actor", DDPG, "A prior actor played without noise", ("(args.prior_noise if is_prior", "(0.0 if is_prior"))
wrong("actor", DQN, "A prior actor played without noise", ("args.prior_epsilon if is_prior", "0.0 if is_prior"))
wrong("actor", DDPG, "it got network=ActorCritic", ("ActorCritic(env), Actor(env)", "ActorCritic(env), ActorCritic(env)"))
wrong("actor", DQN, "it got online=Policy", ("network=prior_network", "online=prior_network"))
wrong("actor", DDPG, "'Actor' object has no attribute 'actor'", ("ActorCritic(env), Actor(env)", "Actor(env), Actor(env)"))
for phrase, edit in {
    "it still plays the prior's actions": ("prior_network if is_prior else", "prior_network if prior else"),
    "still explores as a prior": ("args.prior_noise if is_prior else", "args.prior_noise if prior else"),
    "still played nothing but its network's action": ("(args.prior_noise if is_prior else noise_of(index, args))", "args.prior_noise"),
    "but delivers them as a prior's": ("deliver(replay, online, is_prior)", "deliver(replay, online, bool(prior))"),
    "A truncated game ends, too": ("if terminations[0] or truncations[0]:", "if terminations[0]:"),
    "Noise took an action out of its bounds": ("np.clip(action + sigma * rng.standard_normal(len(low), np.float32), low, high)",
                                               "action + sigma * rng.standard_normal(len(low), np.float32)"),
    "0.3 is right": (" * (high - low) / 2", ""),
    "Both joints got the same noise": ("rng.standard_normal(len(low), np.float32)", "np.float32(rng.standard_normal())"),
    "is not the one that was played": ("action = np.clip", "noisy = np.clip"),
}.items():
    edits = [edit] + [("env.step(action[None])\n        buffer", "env.step(noisy[None])\n        buffer")] * (edit[1] == "noisy = np.clip")
    wrong("actor", DDPG, phrase, *edits)
for phrase, edit in {
    "[False, True, False, False, True] is right": ("np.clip(rewards[0], -1, 1), terminated", 'np.clip(rewards[0], -1, 1), terminated and info["lives"][0] == 0'),
    "env.fire, 3 here, is meant": ("if life_lost:", "if False:"),
    "rewards clipped to [-1, 1]": ("np.clip(rewards[0], -1, 1), terminated", "float(rewards[0]), terminated"),
    "the return is not clipped": ("+ float(rewards[0])", "+ float(np.clip(rewards[0], -1, 1))"),
    "epsilon falls with the steps of all actors": ("epsilon_of(index, global_step, args)", "epsilon_of(index, buffer.count, args)"),
    "receive was called before the blocks []": ('version = receive(board, "newest", q_network, version)', "pass"),
    "The prior's own network computed": ("deliver(replay, q_network, is_prior)", "deliver(replay, policy, is_prior)"),
}.items():
    wrong("actor", DQN, phrase, edit)
right("actor", DDPG, """
    count, now, scores = replay.join(index)
    env = make_control(args.env_id)
    space, generator = env.single_action_space, np.random.default_rng([args.seed, index, count, now])
    learned, baseline = ActorCritic(env), Actor(env) if prior else None
    rbar = load(prior, args.env_id, network=baseline)["average_return"] if prior else None
    local, known, length, total, retired = LocalBuffer(args, store, index, count), -1, 0, 0.0, False
    obs = env.reset(seed=int(generator.integers(2**31)))[0]
    while True:
        yield now
        known = receive(board, "newest", learned, known)
        retired = retired or not prior or surpassed(scores, rbar, args.retire_ratio, args.retire_patience)
        network, share = (learned.actor, noise_of(index, args)) if retired else (baseline, args.prior_noise)
        while not len(local.steps) >= args.local_buffer_size + args.n_step:
            with torch.no_grad():
                mean = network(torch.as_tensor(obs)).numpy()[0]
            noise = generator.normal(0.0, 1.0, len(space.low)).astype(np.float32)
            a = np.minimum(np.maximum(mean + share * (space.high - space.low) / 2 * noise, space.low), space.high)
            following, reward, terminal, cut, _ = env.step(np.stack([a]))
            local.append(obs[0], a, float(reward[0]), bool(terminal[0]), length)
            length, total, obs = length + 1, total + float(reward[0]), following
            if terminal[0] or cut[0]:
                local.append(following[0], a, 0.0, False, length, final=True)
                local.episodes.append((total, length))
                length, total = 0, 0.0
                obs, *_ = env.step(np.stack([a]))
        now, scores = local.deliver(replay, learned, not retired)
""")
right("actor", DQN, """
    first_count, global_step, evaluations = replay.join(index)
    env = make_atari(args.env_id)
    rng = np.random.default_rng([args.seed, index, first_count, global_step])
    online, exploiter = QNetwork(env), QNetwork(env)
    saved = load(prior, args.env_id, network=exploiter) if prior else None
    buffer = LocalBuffer(args, store, index, first_count)
    states, _ = env.reset(seed=int(rng.integers(2**31)))
    version, fire_next, episode = -1, False, {"step": 0, "return": 0.0}

    def choose(policy, epsilon):
        explore, random_action = rng.random() < epsilon, int(rng.integers(env.single_action_space.n))
        if fire_next or explore:
            return env.fire if fire_next else random_action
        with torch.inference_mode():
            return int(policy(torch.from_numpy(states)).numpy().argmax())

    while True:
        yield global_step
        version = receive(board, "newest", online, version)
        is_prior = saved is not None and not surpassed(
            evaluations, saved["average_return"], args.retire_ratio, args.retire_patience)
        epsilon = args.prior_epsilon if is_prior else epsilon_of(index, global_step, args)
        while len(buffer.steps) - args.n_step < args.local_buffer_size:
            action = choose(exploiter if is_prior else online, epsilon)
            after, rewards, terminations, truncations, info = env.step(np.array([action]))
            buffer.append(states[0], action, float(np.clip(rewards[0], -1, 1)), bool(terminations[0]), episode["step"])
            episode = {"step": episode["step"] + 1, "return": episode["return"] + float(rewards[0])}
            no_lives = bool(terminations[0]) and int(info["lives"][0]) == 0
            fire_next = bool(terminations[0]) and not no_lives and not truncations[0]
            if no_lives or truncations[0]:
                buffer.append(after[0], action, 0.0, False, episode["step"], final=True)
                buffer.episodes.append((episode["return"], episode["step"]))
                episode, after = {"step": 0, "return": 0.0}, env.step(np.array([0]))[0]
            states = after
        global_step, evaluations = buffer.deliver(replay, online, is_prior)
""")

for phrase, edits in {
    "a prior actor, too, must receive": (("version = receive(", "version = version if prior else receive("),),
    "env.reset was called again": (("yield global_step  #", "yield global_step; states, _ = env.reset(seed=int(rng.integers(2**31)))  #"),),
    "It never delivers": (("while len(buffer.steps) < args", "while len(buffer.steps) != args"),),
    "append to buffer.episodes": (("buffer.episodes.append((episodic_return, episode_step))", "buffer.episodes = [(episodic_return, episode_step)]"),),
}.items():
    wrong("actor", BOTH, phrase, *edits)
wrong("actor", DDPG, "keeps its prior's noise",
      ("    sigma = (args.prior_noise if is_prior else noise_of(index, args)) * (high - low) / 2\n", ""),
      ("while True:\n    yield", "acts = bool(prior) and not surpassed(evaluations, rbar, args.retire_ratio, args.retire_patience)\n"
       "sigma = (args.prior_noise if acts else noise_of(index, args)) * (high - low) / 2\nwhile True:\n    yield"))
for script, old, new in ((DDPG, "ActorCritic(env), Actor(env)", "ActorCritic(env), ActorCritic(env).actor"),
                         (DDPG, "episode_step, episodic_return = 0, 0.0\nwhile", "episode_step, episodic_return = 0, float(np.zeros(env.num_envs)[0])\nwhile"),
                         (DQN, "states, _ = env.reset(seed=int(rng.integers(2**31)))", "states, info = env.reset(seed=int(rng.integers(2**31)))\nlives = info['lives'][0]")):
    ANSWERS.append(Answer("actor", script, "", None, ((old, new),)))
wrong("actor", DDPG, "0.3 is right", ("* (high - low) / 2", "* high"))
wrong("actor", DDPG, "0.5 is right", ("* (high - low) / 2", "* (high[0] - low[0]) / 2"))
wrong("actor", DDPG, "each joint has bounds of its own", ("low, high = env.single_action_space.low, env.single_action_space.high",
      "low, high = env.single_action_space.low, env.single_action_space.high\nfirst = low[0], high[0]"),
      ("len(low), np.float32), low, high)", "len(low), np.float32), *first)"))
for phrase, edit in {
    "the game gave 1, 2, -3, 4, 5, and DQN": ("np.clip(rewards[0], -1, 1), terminated", "np.clip(rewards[0], 0, 1), terminated"),
    "draw from all": ("int(rng.integers(env.single_action_space.n))", "int(rng.integers(env.single_action_space.n - 1))"),
    "make the generator once": ("yield global_step  #", "yield global_step; rng = np.random.default_rng([args.seed, index])  #"),
}.items():
    wrong("actor", DQN, phrase, edit)
wrong("actor", BOTH, "in a real environment, reach a real replay.] RuntimeError", ("torch.from_numpy(states)", "torch.from_numpy(states).double()"))

# --------------------------------------------------------------------------------------------------- learner
wrong("learner", DDPG, "In a round without a batch allowed_step was not told", ('    board["allowed_step"] = allowed_step(start_step, sampled, args)\n', ""),
      ("        td_errors.append(", '        board["allowed_step"] = allowed_step(start_step, sampled, args)\n        td_errors.append('))
for script, new in ((DDPG, "torch.cat(td_errors).abs().numpy(force=True)"), (DQN, "torch.cat(td_errors).abs().numpy(force=True)"), (
        DDPG, "torch.zeros(slots.size, device=agent.device).copy_(torch.cat(td_errors).abs()).cpu().numpy()")):
    ANSWERS.append(Answer("learner", script, "", None, (("torch.cat(td_errors).abs().cpu().numpy()", new),)))
for script in BOTH:  # right: one dict, kept up to date; the log writes it at once
    ANSWERS.append(Answer("learner", script, "", None, (("td_error, metrics = agent.update(batch, progress[\"global_step\"])",
        "td_error, new = agent.update(batch, progress[\"global_step\"])\n        metrics.update(new)"),)))
wrong("learner", DDPG, "an array of numpy is meant", (".abs().cpu().numpy()", ".abs().cpu()"))
wrong("learner", BOTH, "which real actors filled, and the real agent.] RuntimeError", ("columns = map(torch.from_numpy, gather(store, *row, args))", "columns = (torch.from_numpy(column).double() for column in gather(store, *row, args))"))
SAMPLE = "replay.sample(slots.ravel(), counts.ravel(), priorities)"
PUBLISH = """        if agent.updates % args.publish_frequency == 0:
            publish(board, agent.online, agent.average)
"""
END = """    if board["global_step"] >= args.total_timesteps and (not td_errors or args.samples_per_insert == 0):
        return"""
for phrase, edit in {
    "the priorities are never updated": (SAMPLE, "replay.sample(np.zeros(0, int), np.zeros(0, int), np.zeros(0))"),
    "the absolute TD error is meant": (".abs().cpu()", ".cpu()"),
    "The square is not meant": (".abs().cpu()", ".square().cpu()"),
    "raised to alpha already": (".abs().cpu().numpy()", ".abs().cpu().numpy() ** args.per_alpha"),
    "flatten row by row": (SAMPLE, "replay.sample(slots.T.ravel(), counts.T.ravel(), priorities)"),
    "shifted against their slots": (SAMPLE, "replay.sample(slots.ravel(), counts.ravel(), np.roll(priorities, 1))"),
    "It did not publish after the updates": (PUBLISH, ""),
    "[2, 4, 6] is right": (PUBLISH, "        publish(board, agent.online, agent.average)\n"),
    "the online and the averaged network": ("publish(board, agent.online, agent.average)", "publish(board, agent.target, agent.average)"),
    "It never returned": (END, ""),
    "batches were due until the sixth": (" and (not td_errors or args.samples_per_insert == 0)", ""),
    "always due: it must end all the same": ("(not td_errors or args.samples_per_insert == 0)", "not td_errors"),
    "would wait for ever": ('    board["allowed_step"] = allowed_step(start_step, sampled, args)\n', ""),
    "board's global_step": ('    board["global_step"] = progress["global_step"]\n', ""),
    "the step at which this learner began": ('int(board["global_step"]), 0\n', "0, 0\n"),
    "not finite went into the replay": ("if not (priorities < 1e18).all():", "if (priorities > 1e18).any():"),
    "it yielded [100, 102, 103]": ("metrics, len(td_errors)\n", "metrics, agent.updates\n"),
    "The metrics of updates": ("    td_errors = []\n", "    td_errors, metrics = [], {}\n"),
    "the weights of sample are not used": ("zip(slots, counts, weights)", "zip(slots, counts, np.ones_like(weights))"),
}.items():
    wrong("learner", DDPG, phrase, edit)
wrong("learner", BOTH, "after Tensor.cpu() only", (".abs().cpu().numpy()", ".abs().numpy()"))
wrong("learner", BOTH, "an empty dict, {}, is meant", ("np.zeros(0), {}\n", "np.zeros(0), None\n"))
wrong("learner", DDPG, "begin with np.zeros(0, np.int64)", ("np.zeros(0, np.int64), np.zeros(0, np.int64)", "np.zeros(0), np.zeros(0)"))
wrong("learner", DDPG, "The batch is not on agent.device", (".to(agent.device, non_blocking=True)", ""))
wrong("learner", DDPG, "The order is: progress (a dict), events (a list)", ("yield progress, events,", "yield events, progress,"))
right("learner", DDPG, """
    nothing = np.zeros(0, np.int64)
    told, metrics, sampled, began = (nothing, nothing, np.zeros(0)), {}, 0, int(board["global_step"])
    while True:
        slots, counts, weights, progress, events = replay.sample(*told)
        sampled += slots.size
        board["global_step"], board["allowed_step"] = progress["global_step"], allowed_step(began, sampled, args)
        priorities = []
        for i in range(len(slots)):
            s, a, r, d, s2, w = gather(store, slots[i], counts[i], weights[i], args)
            batch = [torch.from_numpy(column).to(agent.device) for column in (s, a, r, d, s2, w)]
            errors, metrics = agent.update(batch, progress["global_step"])
            priorities += errors.abs().tolist()
            if agent.updates % args.publish_frequency == 0:
                publish(board, agent.online, agent.average)
        if not np.isfinite(priorities).all():
            sys.exit("error: the loss is not finite; lower the learning rate")
        told = slots.reshape(-1), counts.reshape(-1), np.array(priorities)
        yield progress, events, metrics, len(slots)
        if board["global_step"] >= args.total_timesteps and (len(slots) == 0 or not args.samples_per_insert):
            return
""")
right("learner", DQN, """
    slots = counts = np.zeros((0, 1), np.int64)
    errors, metrics, start, total, done = np.zeros(0), {}, int(board["global_step"]), 0, False
    while not done:
        slots, counts, weights, progress, events = replay.sample(slots.flatten(), counts.flatten(), abs(errors))
        total = total + slots.shape[0] * (slots.shape[1] if slots.ndim > 1 else 0)
        board["allowed_step"] = allowed_step(start, total, args)
        board["global_step"] = progress["global_step"]
        arrays, made = gather(store, slots, counts, weights, args), []
        for row in range(slots.shape[0]):
            batch = [torch.as_tensor(array[row]).to(agent.device) for array in arrays]
            error, metrics = agent.update(batch, progress["global_step"])
            made.append(error.to(device="cpu").numpy())
            if not agent.updates % args.publish_frequency:
                publish(board, agent.online, agent.average)
        errors = np.concatenate(made) if made else np.zeros(0)
        if not np.all(abs(errors) < 1e18):
            sys.exit("error: the loss is not finite")
        yield progress, events, metrics, len(made)
        over = progress["global_step"] >= args.total_timesteps
        done = over and (not made or args.samples_per_insert == 0)
""")

# -------------------------------------------------- slips that once earned all points, or were told another mistake
wrong("first_priorities", DQN, "It changed returns", ("targets = returns + discounts * ", "targets = returns\ntargets += discounts * "))
wrong("first_priorities", DQN, "It changed k", ("q_values[t + k]", "q_values[np.add(k, t, out=k)]"))
wrong("first_priorities", DQN, "this is 0.99^k", ("discounts * ", "0.99**k * "))
for script, error in ((DQN, "np.abs(targets - q_values[t, actions])"), (DDPG, f"np.abs(targets - {NOW})")):
    wrong("first_priorities", script, "raised to alpha already", (error, f"({error} + 1e-6) ** 0.6"))
wrong("first_priorities", DQN, "it divides by 255 itself", ("torch.from_numpy(states)", "torch.from_numpy(states) / 255"))
wrong("stack_frames", DQN, "It changed counts", ("back = np.arange", "counts %= args.ring_size\nback = np.arange"))
wrong("stack_frames", DQN, "`counts` says which are meant", (FRAMES, 'store["frame"][slots[:, None] - back]'))
wrong("importance_weights", BOTH, "to the power of alpha already", ("** -beta", "** (-0.6 * beta)"))
wrong("exploration", DQN, "falls as steeply for all actors", (
    f"return start + {FALL} * (args.end_e - start)", f"return max(args.end_e, start - {FALL} * (args.start_e - args.end_e))"))
for body in (f"""
while len(evaluations) >= patience:
    if min(evaluations[:patience]) >= {THRESHOLD}:
        return True
    evaluations.pop(0)
return False""", "evaluations.reverse()\n" + COUNTING):
    ANSWERS.append(Answer("surpassed", DDPG, body.strip("\n"), "It changed evaluations"))
wrong("td_target", DQN, "A q-value may be below 0", (NEXT, "target_network(next_states).gather(1, best_actions).squeeze(1).clamp(min=0)"))
wrong("td_target", DQN, "A q-value may be below 0", (
    NEXT, "(target_network(next_states) * nn.functional.one_hot(best_actions.squeeze(1), q_network(next_states).shape[1])).max(1).values"))
wrong("td_target", DDPG, "A q-value may be below 0", ("discounts * next_q", "discounts * next_q.relu()"))
wrong("td_target", DDPG, "states (B, 1, n) first", ("(next_states, target_actor(next_states))", "(target_actor(next_states), next_states)"))
for phrase, body in {
    "which may be wider than -1 to 1": "return -critic(states, actor(states).clamp(-1, 1)).mean()",
    "not before its action": "return critic(states, -actor(states)).mean()",
}.items():
    ANSWERS.append(Answer("actor_loss", DDPG, body, phrase))
for phrase, old, new in (("G_t of", "discount * reward", "discount * int(reward)"), ("G_t of", "discount * reward", "discount * abs(reward)"),
                         ("Only the first three rewards", "return total, discount, k", "return sum(gamma**i * r for i, r in enumerate(rewards[:3])), discount, k")):
    wrong("n_step_return", DDPG, phrase, (old, new))
right("n_step_return", DDPG, """
    k = next((i + 1 for i, ended in enumerate(terminations) if ended), len(rewards))
    R = np.array(rewards[:k])
    for i in range(k - 2, -1, -1):  # in place: R keeps the rewards' type
        R[i] += gamma * R[i + 1]
    return (R[0] if k else 0.0), gamma**k * (not any(terminations)), k
""")
ANSWERS.append(Answer("soft_update", DDPG, """
for old, new in zip(target.modules(), source.modules()):
    if isinstance(old, nn.Linear):
        old.weight.lerp_(new.weight, tau)
        old.bias.lerp_(new.bias, tau)""", "other layers, as LayerNorm, have parameters, too"))
FINITE = """if not (priorities < 1e18).all():  # so that its square is finite in float32
        sys.exit(f"error: the loss is not finite, by update {agent.updates:,}; lower the learning rate")"""
for old, new in ((".all():", ".any() and td_errors:"), ("(priorities < 1e18)", "(priorities[-1:] < 1e18)"),
                 ("(priorities < 1e18)", "(priorities[:1] < 1e18)")):
    wrong("learner", BOTH, "not finite went into the replay", (FINITE, FINITE.replace(old, new)))
wrong("learner", BOTH, "before the next call", (FINITE, "pass"), (
    f"progress, events = {SAMPLE}\n", f"progress, events = {SAMPLE}\n    if not np.isfinite(priorities).all():\n        sys.exit('error: not finite')\n"))
wrong("actor", BOTH, "With another args.seed", ("default_rng([args.seed, index, first_count, global_step])", "default_rng(index)"))
wrong("actor", BOTH, "the buffer keeps the arrays that it gets", ("    states = next_states\n", "    states[:] = next_states\n"))
for script, network in ((DDPG, "online"), (DQN, "q_network")):
    line = f'    version = receive(board, "newest", {network}, version)'
    wrong("actor", script, "after its yield", ("    yield global_step  #", f"{line}\n    yield global_step  #"), (f"\n{line}  #", "\n    #"))
wrong("actor", BOTH, "receive reads the network there", ("yield global_step  #", 'yield board["global_step"]  #'))
wrong("actor", DQN, "with an epsilon of 0", ("rng.random() < epsilon", "rng.random() > epsilon"))
wrong("actor", DQN, "neither a lost life nor a delivery ends a game", ("    life_lost = terminated and not over\n", """    life_lost = terminated and not over
        if life_lost:
            episodic_return = 0.0
"""))
for script in BOTH:  # right: load takes a Path, too
    ANSWERS.append(Answer("actor", script, "", None, (("load(prior, ", "load(Path(prior), "),)))

# ------------------------------------------------------------------------------ found by one more adversarial reader
for new in ("gather(store, row[0], row[0], row[2], args)", "gather(store, row[0], counts[-1], row[2], args)"):
    wrong("learner", BOTH, "counts that are not those of its slots", ("gather(store, *row, args)", new))
wrong("learner", BOTH, "all samples so far", ("sampled += slots.size", "sampled = (agent.updates + len(slots)) * args.batch_size"))
wrong("learner", BOTH, "not finite went into the replay", (".abs().cpu().numpy()", ".cpu().numpy()"), ("yield progress", "priorities = abs(priorities)\n    yield progress"))
wrong("learner", BOTH, "It returned before it yielded", (END, ""), ("    yield progress", f"{END}\n    yield progress"))
wrong("learner", BOTH, "a list of six tensors is meant", ("[column.to(agent.device, non_blocking=True) for column in columns]", "(column.to(agent.device) for column in columns)"))
for script in BOTH:
    ANSWERS.append(Answer("learner", script, "", None, (("yield progress, events, metrics, len(td_errors)", "yield [progress, events, metrics, len(td_errors)]"),)))
wrong("actor", BOTH, "all evaluations so far, not only the new ones", (
    "global_step, evaluations = buffer.deliver(", "global_step, evaluations = (lambda step, new: (step, evaluations + new))(*buffer.deliver("),
      ("is_prior)  #", "is_prior))  #"))
wrong("actor", BOTH, "With another args.seed", ("default_rng([args.seed, index, first_count, global_step])", "default_rng(args.seed * index)"))
wrong("actor", DDPG, "the prior's noise", ("(args.prior_noise if is_prior else noise_of(index, args)) * (high - low) / 2",
                                           "args.prior_noise if is_prior else noise_of(index, args) * (high - low) / 2"))
wrong("actor", DQN, "After a lost life the action was", ("while len(buffer.steps) < args", "life_lost = False\n    while len(buffer.steps) < args"))
wrong("actor", DQN, "After a lost life the action was", ("if life_lost:", "if life_lost and not is_prior:"))
wrong("exploration", BOTH, "it is to explore least", ("share = 1.0 if index >= args.num_nature_actors else ",
                                                      "share = 1.0 if index >= args.num_nature_actors != 1 else 0.0 if args.num_nature_actors == 1 else "))
wrong("n_step_return", BOTH, "a whole number is meant", ("total, discount, k = 0.0, 1.0, 0", "total, discount, k = 0.0, 1.0, 0.0"))
wrong("sum_tree", DDPG, "rounded, to float32 perhaps", ("values.copy()", "values.astype(np.float32)"))
wrong("sum_tree", DDPG, "at the root is not enough", ("(values >= left_sums) & (self.nodes[nodes + 1] > 0)", "values >= left_sums"),
      ("values.copy()", "np.minimum(values, np.nextafter(self.nodes[1], 0))"))
wrong("sum_tree", DDPG, "the walk stopped too early", ("range(self.depth)", "range(self.depth - 1)"))
ANSWERS.append(Answer("soft_update", DDPG, "source.requires_grad_(False)\nfor t, s in zip(target.parameters(), source.parameters()):\n"
                      "    t.lerp_(s, tau)", "switched off the source's gradients"))
wrong("surpassed", DDPG, "looks only at the newest", ("for r in evaluations]", "for r in evaluations[-3 * patience :]]"))
ANSWERS.append(Answer("actor_loss", DDPG, "loss = -critic(states, actor(states)).mean()\nloss.backward(retain_graph=True)\nreturn loss", "called backward itself"))
for script, network in ((DQN, "q_network"), (DDPG, "online")):  # right: to be sure; and to be ready for a GPU
    ANSWERS.append(Answer("first_priorities", script, "", None, (
        ("torch.from_numpy(states)", f"torch.from_numpy(states).to(next({network}.eval().parameters()).device)"),)))
