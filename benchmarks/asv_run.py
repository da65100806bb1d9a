"""``tox -e asv``: asv on the current commit in this environment, offline, its history under .asv/.

asv writes its machine file to HOME, so HOME is a folder of this environment; in an existing environment it saves
results only with --set-commit-hash.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile


def main(arguments: list[str]) -> int:
    """Run asv; arguments are passed on to `asv run` (for example `--bench Samplers --quick`). Returns its exit code."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "HOME": home, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        asv = [sys.executable, "-m", "asv"]
        subprocess.run([*asv, "machine", "--yes", "--machine", "trilemma"], env=environment, check=True)
        run = [*asv, "run", "-E", "existing", "--machine", "trilemma", "--set-commit-hash", commit, *arguments]
        return subprocess.run(run, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
