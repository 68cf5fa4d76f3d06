#!/bin/sh
# Says what this machine lacks for the local pipeline, each with the command that mends it; exits 1 if anything is missing.
# POSIX sh and nothing else, since what it looks for may not be there.
set -u

system=$(uname -s)
missing=0

# lack WHAT DEBIAN FEDORA MACOS: the fix for the package manager that is here.
lack() {
    missing=1
    if [ "$system" = Darwin ]; then
        fix=$4
    elif [ "$2" = "$3" ] || command -v apt-get >/dev/null 2>&1; then
        fix=$2
    elif command -v dnf >/dev/null 2>&1; then
        fix=$3
    else
        fix="your package manager; on Debian it is: $2"
    fi
    printf 'missing: %s\n    fix: %s\n' "$1" "$fix" >&2
}

rustup='curl --proto "=https" --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y && . "$HOME/.cargo/env"'
wanted=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)

python=${PYTHON:-python3}
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
    lack "Python 3.10 or newer as '$python' (another one: make PYTHON=python3.12 …)" \
        'sudo apt-get install -y python3 python3-venv' 'sudo dnf install -y python3' 'brew install python@3.13'
elif ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    lack "the venv module of '$python'" "sudo apt-get install -y python$version-venv" 'sudo dnf install -y python3-pip' 'brew install python@3.13'
fi

if ! command -v cargo >/dev/null 2>&1; then
    if [ -x "$HOME/.cargo/bin/cargo" ]; then
        lack 'cargo on the PATH (it is installed)' '. "$HOME/.cargo/env"' '. "$HOME/.cargo/env"' '. "$HOME/.cargo/env"'
    else
        lack "Rust $wanted or newer" "$rustup" "$rustup" "$rustup"
    fi
else
    have=$(rustc --version 2>/dev/null | sed -n 's/^rustc \([0-9]*\.[0-9]*\).*/\1/p')
    if ! printf '%s\n%s\n' "$wanted" "$have" | sort -t. -k1,1n -k2,2n -c 2>/dev/null || [ -z "$have" ]; then
        if command -v rustup >/dev/null 2>&1; then fix='rustup update stable && rustup default stable'; else fix=$rustup; fi
        lack "Rust $wanted or newer (here: ${have:-none that runs})" "$fix" "$fix" "$fix"
    fi
fi

if ! command -v cc >/dev/null 2>&1; then
    lack 'a linker and C compiler (cc)' 'sudo apt-get install -y build-essential' 'sudo dnf install -y gcc' 'xcode-select --install'
fi

exit $missing
