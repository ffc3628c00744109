# What the scripts of this folder share. To be sourced from the root of the checkout, by a shell with -eu.
# shellcheck shell=sh disable=SC2034 # some of it is only for those that source it

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

# A signal ends the script by exit, so that what it has set to run on exit does.
trap 'exit 130' INT
trap 'exit 143' TERM

say() {
    printf '\033[1m== %s\033[0m\n' "$*"
}

fail() {
    echo "${0##*/}: $*" >&2
    exit 1
}

# Runs a stage and notes the seconds it took: stage TITLE HINT COMMAND... . HINT says what takes long, or is empty.
stages=
title=
stage() {
    title=$1
    began=$(date +%s)
    say "$title${2:+ ($2)}"
    shift 2
    "$@"
    note
}

# Adds the stage that ran to the table: note [REMARK]
note() {
    stages="$stages$(printf '%6d s  %s%s' $(($(date +%s) - began)) "$title" "${1:-}")
"
    title=
}

# The table of all stages, to be called when the shell exits; one that did not end has failed.
summary() {
    [ -z "$title" ] || note ": FAILED"
    say "$1"
    printf '%s' "$stages"
}

# Whether PostgreSQL and RabbitMQ run already: what was started by somebody else is not ended here. Redis is started by those that need it.
services_are_up() {
    # To the end: a reader that leaves early is an error to whoever writes.
    ! tool services status | grep '^[PR][oa].* does not run' >/dev/null
}

# A tool of the workspace: tool NAME ARGUMENTS... Servers that it starts outlive the caller, whose open files, a lock among them, they must
# not hold.
tool() {
    tool_name=$1
    shift
    cargo run -q -p "$tool_name" --bin "$tool_name" -- "$@" 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-
}

# Builds a package as it is packed, as a static binary, and sets $built to the folder that it is in: build_static PACKAGE PROFILE. The
# target is named, because otherwise the static flag would hold for procedural macros too, which are shared libraries.
build_static() {
    triple=$(rustc -vV | sed -n 's/^host: //p')
    RUSTFLAGS='-C target-feature=+crt-static' cargo build --locked --target "$triple" --package "$1" --profile "$2"
    built=$CARGO_TARGET_DIR/$triple/$2
}
