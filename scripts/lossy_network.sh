#!/bin/sh
# Run a command in a network namespace of its own that has nothing but itself and loses 2 % of all UDP packets; then say how many.
# As root, or where anybody may make namespaces.
set -eu
for tool in unshare ip nft; do
    command -v $tool >/dev/null || { echo "A lossy network needs $tool (Debian: apt install util-linux iproute2 nftables)." >&2; exit 1; }
done
mapped=""
[ "$(id -u)" = 0 ] || mapped=--map-root-user
# shellcheck disable=SC2016,SC2086 # expanded inside; a list of words
exec unshare --net $mapped sh -euc '
    ip link set lo up
    # Browsers offer no loopback address: one of an interface, whose packets to itself take the loopback way too.
    ip link add near type veth peer name far
    ip address add 10.77.0.1/24 dev near
    ip link set near up
    ip link set far up
    ip route add default dev near
    nft add table inet lossy
    nft "add chain inet lossy arriving { type filter hook input priority 0; }"
    nft "add rule inet lossy arriving meta l4proto udp numgen random mod 100 < 2 counter drop"
    status=0
    "$@" || status=$?
    nft list table inet lossy | grep counter
    exit $status
' lossy "$@"
