# What the scripts of this folder share. To be sourced from the root of the checkout, by a shell with -eu.
# shellcheck shell=sh

: "${CHATCLUSTER_CACHE:=$HOME/.cache/chatcluster}"
: "${CARGO_TARGET_DIR:=$CHATCLUSTER_CACHE/target}"
export CHATCLUSTER_CACHE CARGO_TARGET_DIR
PATH=$CHATCLUSTER_CACHE/bin:$CHATCLUSTER_CACHE/lint/bin:$PATH
export PATH

# The release name and the namespaces of `make run`.
operator_namespace=chatcluster-system
chat_namespace=chat

# The version in Cargo.toml, which is the tag of the images.
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)

say() {
    printf '\033[1m== %s\033[0m\n' "$*"
}

fail() {
    echo "${0##*/}: $*" >&2
    exit 1
}

# Runs a stage and notes the seconds it took: stage TITLE HINT COMMAND... . HINT says what takes long, or is empty.
stages=
stage() {
    title=$1
    say "$title${2:+ ($2)}"
    shift 2
    began=$(date +%s)
    "$@"
    stages="$stages$(printf '%6d s  %s' $(($(date +%s) - began)) "$title")
"
}

# The table of all stages so far.
summary() {
    say "$1"
    printf '%s' "$stages"
}

# A tool of the workspace: tool NAME ARGUMENTS...
tool() {
    name=$1
    shift
    cargo run -q -p "$name" --bin "$name" -- "$@"
}
