"""epsilon_of(index, global_step, args) of CA2E-DQN, noise_of(index, args) of CA2E-DDPG."""

from types import SimpleNamespace

from common import expect, numbers


def settings(nature=5):
    rng = numbers()
    return SimpleNamespace(
        num_nature_actors=nature, num_prior_actors=3, num_actors=nature + 3, start_e=1.0,
        min_start_e=float(rng.choice([0.2, 0.3])), end_e=float(rng.choice([0.02, 0.1])), exploration_steps=1000,
        total_timesteps=5000, prior_epsilon=0.01, prior_noise=0.02,
        max_noise=float(rng.choice([0.3, 0.4])), min_noise=0.05)


def between(index, high, low, count):
    """Evenly from high, of the first of count, to low, of the last; beyond them, low."""
    return high if count == 1 and index == 0 else low if index >= count else high + (low - high) * index / (count - 1)


def is_dqn(student):
    return hasattr(student, "epsilon_of")


def check(student, index, step, args, wrong=None):
    if is_dqn(student):
        what, answer = f"epsilon_of({index}, {step}, args)", student.epsilon_of(index, step, args)
        start = between(index, args.start_e, args.min_start_e, args.num_nature_actors)
        right = start + min(1.0, step / args.exploration_steps) * (args.end_e - start)
        what += (f" with {args.num_nature_actors} nature actors, start_e {args.start_e}, min_start_e "
                 f"{args.min_start_e}, end_e {args.end_e}, exploration_steps {args.exploration_steps}")
    else:
        what, answer = f"noise_of({index}, args)", student.noise_of(index, args)
        right = between(index, args.max_noise, args.min_noise, args.num_nature_actors)
        what += (f" with {args.num_nature_actors} nature actors, max_noise {args.max_noise}, min_noise "
                 f"{args.min_noise}")
    expect(answer, right, what, wrong)


def mistakes(index, args):
    high, low, n = ((args.start_e, args.min_start_e) if hasattr(args, "dqn") else (args.max_noise, args.min_noise)) + (
        args.num_nature_actors,)
    wrong = {
        "This divides by the number of actors; from the first to the last there are one fewer steps.":
            high + (low - high) * index / n,
        "All nature actors get the first one's; they are to explore differently.": high,
        "This counts the prior actors too: the last *nature* actor explores least.":
            high + (low - high) * index / (args.num_actors - 1),
        "These lie evenly in the exponent, as Ape-X's; here they lie evenly themselves.":
            high * (low / high) ** (index / (n - 1))}
    if index == 0:
        wrong["The order is reversed (or all get the last one's): the first nature actor explores most."] = low
        wrong["It begins at end_e, where it should end."] = args.end_e
    return wrong


def marked(student):
    args = settings()
    if is_dqn(student):
        args.dqn = True
    return args


def test_first_and_last(student):
    """2 points: the first nature actor explores most, the last one least."""
    args = marked(student)
    for index in (0, args.num_nature_actors - 1):
        check(student, index, 0, args, mistakes(index, args))


def test_between(student):
    """2 points: the others lie evenly between."""
    args = marked(student)
    for index in (1, 2, 3):
        check(student, index, 0, args, mistakes(index, args))


def test_annealing(student):
    """2 points: in CA2E-DQN epsilon falls evenly to end_e, and stays there (in CA2E-DDPG nothing falls)."""
    args = marked(student)
    for index, step in ((0, 500), (2, 250), (0, 1000), (1, 5000)):
        start, share = between(index, args.start_e, args.min_start_e, 5), step / args.exploration_steps
        check(student, index, step, args, {
            "It goes on falling after exploration_steps: it must stay at end_e.":
                start + share * (args.end_e - start),
            "It does not fall with the global step.": start,
            "This falls from start_e to end_e for all actors alike.":
                args.start_e + min(1.0, share) * (args.end_e - args.start_e),
            "This falls to 0, not to end_e.": start * (1 - min(1.0, share)),
            "It falls evenly, on a line, not exponentially.": start * (args.end_e / start) ** min(1.0, share),
            "It falls over exploration_steps, not over all steps.":
                start + step / args.total_timesteps * (args.end_e - start),
            "It rises from end_e, where it should fall to it.": args.end_e + min(1.0, share) * (start - args.end_e),
            "This falls as steeply for all actors; each falls from its own start to end_e.":
                max(args.end_e, start - min(1.0, share) * (args.start_e - args.end_e)),
            "This falls by end_e, not to end_e.": start - min(1.0, share) * args.end_e} if is_dqn(student) else {})


def test_retired_prior(student):
    """2 points: a prior that has retired, an index beyond the nature actors', explores as little as the last of them."""
    args = marked(student)
    n = args.num_nature_actors
    high, low = (args.start_e, args.min_start_e) if is_dqn(student) else (args.max_noise, args.min_noise)
    for index in (n, n + 2):
        beyond = high + (low - high) * index / (n - 1)
        check(student, index, 0, args, {
            "The line goes on beyond the last nature actor; from there on it must be flat.": beyond,
            "The line goes on beyond the last nature actor, cut at 0; it must stay at the last one's.":
                max(0.0, beyond),
            "A retired prior gets the first one's: it is to explore least (Deviation 6).": high,
            "A retired prior is a nature actor now: prior_epsilon is no longer its own.": args.prior_epsilon,
            "A retired prior is a nature actor now: prior_noise is no longer its own.": args.prior_noise,
            "A retired prior explores, too.": 0.0})
    for step in (500, 1000):
        check(student, n, step, args, {"A retired prior's epsilon falls, too: it is a nature actor now.": low})


def test_one_nature_actor(student):
    """1 point: a single nature actor explores most; nothing is divided by 0. With none, a retired prior explores least."""
    check(student, 0, 0, settings(nature=1))
    for nature, index in ((0, 0), (0, 2), (1, 1), (1, 3)):
        args = settings(nature)
        check(student, index, 0, args, {"A retired prior gets the first one's: it is to explore least, however many nature actors "
                                        "there are.": args.start_e if is_dqn(student) else args.max_noise})
