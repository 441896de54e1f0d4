#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A model in two stages, each in a network namespace of its own, over a link with delay: the text is that of one
# process, and a link's delay is paid once for each step, however many tokens it brings.
#   mpi_namespaces.sh FORETOKEN MODEL [DELAY...]      milliseconds one way; 0 1 5 if none is given
# Needs root, ip and OpenMPI; for the delay netem, or else /dev/net/tun and python3. Where these are not there it says
# so and exits with 77.
set -u
foretoken=$(readlink -f "$1") model=$(readlink -f "$2")
shift 2
delays=("${@:-0}")
[ $# -gt 0 ] || delays=(0 1 5)
here=$(dirname "$(readlink -f "$0")")
tmp=$(mktemp -d)
a=ftk-$$-a b=ftk-$$-b net=10.213.77
n_failed=0 link=

skip() {
    echo "SKIPPED: $*"
    exit 77
}

close_link() {
    [ -n "$link" ] && { exec 7>&-; wait "$link"; }
    link=
    ip -n $a link del veth 2> /dev/null
}

close_all() {
    close_link
    ip netns del $a 2> /dev/null
    ip netns del $b 2> /dev/null
    rm -rf "$tmp"
}

fail() {
    n_failed=$((n_failed + 1))
    echo "not ok   $*"
    sed 's/^/    /' "$tmp/err"
}

[ "$(id -u)" = 0 ] || skip "network namespaces are for root"
for program in ip mpirun.openmpi; do
    command -v $program > /dev/null || skip "$program is not there"
done
[ -e "$(dirname "$foretoken")/foretoken-openmpi.so" ] || skip "this build has no link over OpenMPI"
trap close_all EXIT
ip netns add $a 2> "$tmp/err" && ip netns add $b 2>> "$tmp/err" || skip "no network namespaces: $(cat "$tmp/err")"
ip -n $a link set lo up
ip -n $b link set lo up

open_veth() {
    ip -n $a link add veth type veth peer name veth netns $b &&
        ip -n $a addr add $net.1/24 dev veth && ip -n $b addr add $net.2/24 dev veth &&
        ip -n $a link set veth up && ip -n $b link set veth up
}

# Both ends by netem, or all of it by delaylink.py.
how=netem
open_veth || skip "no veth devices"
for ns in $a $b; do
    ip netns exec $ns tc qdisc add dev veth root netem delay 1ms 2> "$tmp/err" || how=tun
done
ip -n $a link del veth
if [ $how = tun ]; then
    echo "NOTE: this kernel or machine has no netem ($(head -1 "$tmp/err")): tests/delaylink.py holds packets back instead"
    [ -e /dev/net/tun ] && command -v python3 > /dev/null || skip "there is nothing to delay a link with"
fi

open_link() {
    if [ $how = netem ]; then
        open_veth
        [ "$1" = 0 ] && return
        ip netns exec $a tc qdisc add dev veth root netem delay "$1ms"
        ip netns exec $b tc qdisc add dev veth root netem delay "$1ms"
        return
    fi
    rm -f "$tmp/in"
    mkfifo "$tmp/in"
    python3 "$here/delaylink.py" "$1" $a $net.1/24 $b $net.2/24 < "$tmp/in" > "$tmp/link" 2>&1 &
    link=$!
    exec 7> "$tmp/in"
    for _ in $(seq 100); do
        grep -q ready "$tmp/link" && return
        sleep 0.1
    done
    cat "$tmp/link"
    exit 1
}

# What OpenMPI would use ssh for. Each end has a name of its own, or they would be taken for one machine.
cat > "$tmp/agent" << END
#!/bin/sh
shift
exec ip netns exec $b unshare --uts sh -c "hostname $b; \$*"
END
chmod +x "$tmp/agent"

# generate over both: its text in out, its speed in err
staged() {
    timeout 200 ip netns exec $a unshare --uts sh -c "hostname $a; exec \"\$@\"" sh mpirun.openmpi --allow-run-as-root \
        --mca plm_rsh_agent "$tmp/agent" --mca oob_tcp_if_include $net.0/24 --mca btl self,tcp \
        --mca btl_tcp_if_include $net.0/24 --mca pml ob1 --host $net.1:1,$net.2:1 -n 2 \
        "$foretoken" "${generate[@]}" --drafter "$1" --mpi > "$tmp/out" 2> "$tmp/err" < /dev/null
}

generate=(generate -m "$model" -p "Once upon a time there was a king" -n 80 -t 1 --stats)
"$foretoken" "${generate[@]}" --drafter none > "$tmp/expected" 2> "$tmp/err" || { fail "generate"; exit 1; }
echo "one way   drafter   ms a step   tokens a step   ms a token"
for delay in "${delays[@]}"; do
    open_link "$delay"
    for drafter in none lookup auto; do
        staged $drafter && cmp "$tmp/expected" "$tmp/out" || { fail "$delay ms, $drafter"; continue; }
        sed -n 's/.*\[\([0-9]*\) tokens, \([0-9.]*\) tokens.s, \([0-9.]*\) tokens per step.*/\2 \3/p' "$tmp/err" |
            awk -v d="$delay" -v name=$drafter '{
                printf "%4g ms   %-8s  %9.2f   %13.2f   %10.2f\n", d, name, 1000 * $2 / $1, $2, 1000 / $1
                print d, name, 1000 * $2 / $1, $2 >> "'"$tmp"'/table" }'
    done
    close_link
done

# A step goes there and back: never less than twice the delay, and without drafts that for every token.
awk '{ if ($3 < 2 * $1) { print "not ok   a step of " $3 " ms over a link of " $1 " ms"; bad = 1 }
       if ($2 == "none" && $4 > 1.01) { print "not ok   more than a token in a step without drafts"; bad = 1 }
       if ($2 == "none") plain[$1] = $3 / $4
       else if ($1 > 0 && $3 / $4 > 0.7 * plain[$1]) { print "not ok   drafts save less than a third at " $1 " ms"; bad = 1 } }
     END { exit bad }' "$tmp/table" || n_failed=$((n_failed + 1))
[ $n_failed = 0 ] && echo "ok   the delay is paid once for each accepted run"
[ $n_failed = 0 ]
