#!/usr/bin/env bash
# The main job, live: a claim becomes a mounted volume, is written, grows while
# mounted, is read by a second pod, and goes without a trace.
#
#   deploy/demo/demo.sh path/to/holdfast
#
# Exit status 0 only if every step really happened.
set -euo pipefail

binary=$(realpath "${1:?usage: demo.sh path/to/holdfast}")
here=$(cd "$(dirname "$0")" && pwd)
[ "$(id -u)" = 0 ] || { echo "demo: needs root: it makes loop devices and mounts file systems" >&2; exit 1; }
command -v kubectl >/dev/null || { echo "demo: needs kubectl: run 'make setup'" >&2; exit 1; }

root=$(mktemp -d /var/tmp/holdfast-demo.XXXXXX)
log=$root.log        # what holdfast says
seen=$root.seen      # the timeline: seconds, what was observed
steps=$root.steps    # the table at the end
: >"$seen" >"$steps"
up_pid= watchers=()
bold= plain=
if [ -t 1 ]; then bold=$(tput bold 2>/dev/null || true) plain=$(tput sgr0 2>/dev/null || true); fi

now() { date +%s.%N; }
since() { awk -v a="$1" -v b="${2:-$(now)}" 'BEGIN { printf "%.3f", b - a }'; }
say() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
fail() {
  echo "demo: FAILED: $*" >&2
  echo "--- the last lines of holdfast's log ($log) ---" >&2
  tail -n 25 "$log" >&2
  exit 1
}

finish() {
  local status=$?
  trap - EXIT INT TERM
  for pid in "${watchers[@]}"; do kill "$pid" 2>/dev/null || true; done
  if [ -n "$up_pid" ] && kill -INT "$up_pid" 2>/dev/null; then wait "$up_pid" || true; fi
  # After a failure mounts may be left: what is mounted below the root is never deleted through.
  if [ $status -eq 0 ]; then
    rm -rf --one-file-system "$root" "$log" "$seen" "$steps"
  else
    echo "demo: left for inspection: $root $log" >&2
  fi
  exit $status
}
trap finish EXIT INT TERM

k() { kubectl --kubeconfig "$root/kubeconfig" --cache-dir "$root/kubectl-cache" "$@"; }

# Follows one kind and writes down each new state of it with the time it was seen.
follow() {
  local label=$1 kind=$2 columns=$3
  k get "$kind" -w --no-headers -o "custom-columns=$columns" 2>/dev/null |
    while read -r line; do printf '%s %s %s\n' "$(now)" "$label" "$line" >>"$seen"; done &
  watchers+=($!)
}

# Follows the kernel's mount table below the root.
follow_mounts() {
  local before='' after path
  while sleep 0.01; do
    after=$(awk -v r="$root/kubelet/" 'index($5, r) == 1 { print $5 }' /proc/self/mountinfo | sort)
    if [ "$after" != "$before" ]; then
      comm -13 <(printf '%s\n' "$before") <(printf '%s\n' "$after") | while read -r path; do
        case $path in */globalmount) echo "$(now) staged $path" ;; */mount) echo "$(now) published $path" ;; esac
      done >>"$seen"
      comm -23 <(printf '%s\n' "$before") <(printf '%s\n' "$after") | while read -r path; do
        case $path in */globalmount) echo "$(now) unstaged $path" ;; */mount) echo "$(now) unpublished $path" ;; esac
      done >>"$seen"
      before=$after
    fi
  done &
  watchers+=($!)
}

# until_seen STEP PATTERN FROM: waits for a line of the timeline from line FROM on, prints it, and records the step.
until_seen() {
  local step=$1 pattern=$2 from=$3 line at deadline=$((SECONDS + 60))
  until line=$(tail -n "+$from" "$seen" | grep -m1 -E "$pattern"); do
    kill -0 "$up_pid" 2>/dev/null || fail "holdfast ended before: $step"
    [ $SECONDS -lt $deadline ] || fail "not seen within 60 s: $step"
    sleep 0.02
  done
  at=${line%% *}
  record "$step" "$(since "$t0" "$at")" "${line#* }"
}

# until STEP COMMAND…: waits until a command succeeds and records the step.
until_true() {
  local step=$1 deadline=$((SECONDS + 60))
  shift
  until "$@"; do
    kill -0 "$up_pid" 2>/dev/null || fail "holdfast ended before: $step"
    [ $SECONDS -lt $deadline ] || fail "not within 60 s: $step"
    sleep 0.02
  done
  record "$step" "$(since "$t0")" ""
}

record() { printf '  %9.3f s  %-34s %s\n' "$2" "$1" "$3"; printf '%s\t%s\t%s\n' "$phase" "$1" "$2" >>"$steps"; }
phase() { phase=$1; t0=$(now); from=$(($(wc -l <"$seen") + 1)); say "$1"; }
none() { [ -z "$("$@" 2>/dev/null)" ]; }
volume_path() { echo "$root/kubelet/pods/$(k get pod "$1" -o jsonpath='{.metadata.uid}')/volumes/kubernetes.io~csi/$pv/mount"; }
size_mib() { df --output=size -BM "$1" | tail -n 1 | tr -dc 0-9; }

phase "holdfast up --root $root"
"$binary" up --root "$root" >"$log" 2>&1 &
up_pid=$!
until_true "kubeconfig written" test -s "$root/kubeconfig"
until_true "CSI socket listens" test -S "$root/csi.sock"
node_ready() { [ "$(k get csinodes -o jsonpath='{.items[*].spec.drivers[*].name}' 2>/dev/null)" = csi.holdfast.dev ]; }
until_true "driver registered on the node" node_ready
sed -n '1,6p' "$log"

follow claim pvc 'PHASE:.status.phase,VOLUME:.spec.volumeName,CAPACITY:.status.capacity.storage'
follow volume pv 'NAME:.metadata.name,PHASE:.status.phase,CAPACITY:.spec.capacity.storage'
follow attachment volumeattachments 'NODE:.spec.nodeName,ATTACHED:.status.attached'
follow pod pods 'NAME:.metadata.name,NODE:.spec.nodeName,REASON:.status.reason'
follow_mounts

phase "kubectl apply -f deploy/demo"
k apply -f "$here"
until_seen "claim Pending" '^[0-9.]+ claim Pending' "$from"
until_seen "volume provisioned" '^[0-9.]+ volume pvc-' "$from"
until_seen "claim Bound" '^[0-9.]+ claim Bound' "$from"
until_seen "volume attached" '^[0-9.]+ attachment .* true' "$from"
until_seen "volume staged" '^[0-9.]+ staged ' "$from"
until_seen "volume published" '^[0-9.]+ published ' "$from"
until_seen "pod reports it" '^[0-9.]+ pod writer .*VolumesPublished' "$from"
pv=$(k get pvc data -o jsonpath='{.spec.volumeName}')
k get sc,pvc,pv,volumeattachments,pods
[ "$(k get pvc data -o jsonpath='{.status.phase}')" = Bound ] || fail "the claim is not Bound"

phase "write a file through the pod's volume path"
path=$(volume_path writer)
mountpoint -q "$path" || fail "$path is not a mount point"
head -c 64M /dev/urandom >"$path/file" && sync -f "$path"
sum=$(sha256sum <"$path/file")
record "64 MiB written and synced" "$(since "$t0")" ""
df -h "$path"
[ "$(size_mib "$path")" -gt 900 ] && [ "$(size_mib "$path")" -le 1024 ] || fail "df does not show 1Gi"

phase "grow the claim to 2Gi while the pod uses it"
k patch pvc data -p '{"spec":{"resources":{"requests":{"storage":"2Gi"}}}}'
until_seen "volume grown" "^[0-9.]+ volume $pv .* 2Gi" "$from"
until_seen "claim says 2Gi" '^[0-9.]+ claim Bound .* 2Gi' "$from"
df -h "$path"
[ "$(size_mib "$path")" -gt 1900 ] && [ "$(size_mib "$path")" -le 2048 ] || fail "df does not show 2Gi"
record "df agrees" "$(since "$t0")" ""

phase "delete the pod, start a second one on the same claim"
k delete pod writer --wait=false
until_seen "first pod: unpublished" '^[0-9.]+ unpublished ' "$from"
until_seen "first pod: unstaged" '^[0-9.]+ unstaged ' "$from"
until_true "first pod: gone" none k get pod writer -o name --ignore-not-found
until_true "volume detached" none k get volumeattachments -o name
k apply -f "$here/second"
until_seen "second pod: published" '^[0-9.]+ published ' "$from"
until_seen "second pod: reports it" '^[0-9.]+ pod reader .*VolumesPublished' "$from"
[ "$(sha256sum <"$(volume_path reader)/file")" = "$sum" ] || fail "the second pod reads another file"
record "same file read" "$(since "$t0")" ""

phase "delete everything"
k delete --wait=false -f "$here/second" -f "$here/2-claim.yaml" -f "$here/1-class.yaml"
objects() { k get pods,pvc,pv,volumeattachments,sc -o name; }
no_mounts() { ! grep -q " $root/" /proc/self/mountinfo; }
no_loops() { ! grep -lsq "^$root/" /sys/block/loop*/loop/backing_file; }
images() { find "$root/pools" -name '*.img'; }
until_true "no pod, claim, volume, class left" none objects
until_true "no mount left" no_mounts
until_true "no loop device left" no_loops
until_true "no image file left" none images

phase "Ctrl-C"
kill -INT "$up_pid"
wait "$up_pid" || fail "holdfast up ended with status $?"
up_pid=
record "holdfast up ended cleanly" "$(since "$t0")" ""

say "Seconds since the start of each phase (times seen through kubectl include kubectl's own)"
awk -F'\t' '{ if ($1 != last) { printf "\n%s\n", $1; last = $1 } printf "  %8.3f  %s\n", $3, $2 }' "$steps"
say "Every step really happened."
