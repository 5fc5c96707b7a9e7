# Sourced by the other scripts: a virtual environment with the tested versions, from nothing but Python.
# usage: prepare FOLDER [EXTRA]
prepare() {
    local folder=$1 extra=${2:+[$2]}
    local python=${PYTHON:-python3}
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
        echo "Python 3.10 or later is needed; name one with PYTHON=/path/to/python" >&2
        return 1
    }
    [ -x "$folder/bin/python" ] || "$python" -m venv "$folder"
    # torch first and by its exact version: a looser requirement could bring another build of several GB
    "$folder/bin/python" -m pip install --quiet --quiet --disable-pip-version-check "$(grep '^torch==' constraints.txt)"
    "$folder/bin/python" -m pip install --quiet --quiet --disable-pip-version-check --constraint constraints.txt --editable ".$extra"
    PATH="$PWD/$folder/bin:$PATH"
}
