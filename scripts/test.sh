#!/usr/bin/env bash
# Install everything that the tests need into a virtual environment and run them. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh
prepare .venv test
# one thread a process: two processes of several threads each would only fight for the cores
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
python -m pytest --numprocesses "${TEST_PROCESSES:-auto}" --dist loadfile "$@"
