"""The graders as ordinary tests: of the scripts in the folder that STUDENT names, else of the repository's own."""

import functools
import os
from pathlib import Path

from common import CONCEPTS, ROOT, import_script, scripts_in


imported = functools.cache(import_script)


def pytest_generate_tests(metafunc):
    concept = metafunc.module.__name__.removeprefix("test_")
    if "student" in metafunc.fixturenames and concept in CONCEPTS:
        folder = Path(os.environ.get("STUDENT", ROOT))
        scripts = [path for path in scripts_in(folder) if path.name in CONCEPTS[concept]]
        metafunc.parametrize("student", [imported(path) for path in scripts],
                             ids=[f"{folder.resolve().name}/{path.name}" for path in scripts])
