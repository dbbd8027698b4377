# Limits on iops and bandwidth of image volumes: what a cgroup with the io controller really lets through.
# modules: ext4 loop
# programs: mkfs.ext4 blkid curl
# disks: 2G
# minutes: 20
. /vm/case.sh
. /vm/csi.sh
group=/sys/fs/cgroup/pods

mkfs.ext4 -q /dev/vda
mkdir /pool
mount /dev/vda /pool
echo +io >/sys/fs/cgroup/cgroup.subtree_control
mkdir $group
cat >/run/pools.toml <<TOML
[[pool]]
name = "default"
backend = "image"
path = "/pool/default"
create = true
io_cgroup = "$group"
TOML
id=default.v
file=/run/pod-$id/file

# centiseconds COMMAND…: how long it takes in the cgroup, as a pod's processes would.
centiseconds() {
  local begin end
  begin=$(cut -d' ' -f1 /proc/uptime | tr -d .)
  sh -c "echo \$\$ >$group/cgroup.procs && exec \"\$@\"" pod "$@" 2>/run/dd || fail "$*: $(cat /run/dd)"
  end=$(cut -d' ' -f1 /proc/uptime | tr -d .)
  echo $((end - begin))
}
reads() { centiseconds dd "if=$file" of=/dev/null "bs=$1" "count=$2" iflag=direct; }
writes() { centiseconds dd if=/dev/zero "of=$file" "bs=$1" "count=$2" oflag=direct conv=notrunc; }
# slower WHAT TIMES A B: A is so many times B, or more.
slower() {
  [ "$3" -ge $(($2 * $4)) ] || fail "$1: $3 cs beside $4 cs, less than $2 times"
  ok "$1: $3 cs beside $4 cs"
}
# holds LIMITS: what the kernel has for the volume's device.
holds() {
  local line
  line=$(cat $group/io.max)
  equal "limits in the kernel" "$1" "${line#* }"
}
answers() (call Identity/Probe </dev/null)

/vm/driver start
wait_for 60 "the driver answers" answers
create v 64
attach $id
stage $id
publish $id
dd if=/dev/zero of=$file bs=1M count=16 conv=fsync 2>/dev/null
holds ""
# The first that reads has everything to load. A centisecond more, for what takes less than one.
reads 64k 128 >/dev/null
free=$(($(reads 64k 128) + 1))
free_writes=$(($(writes 4k 64) + 1))

modify $id bandwidthRead=1Mi
holds 'rbps=1048576 wbps=max riops=max wiops=max'
one=$(reads 64k 128)
slower "8 MiB read at 1 MiB a second, and without a limit" 3 "$one" "$free"
modify $id bandwidthRead=4Mi
four=$(reads 64k 128)
slower "8 MiB read at 1 MiB a second, and at 4" 2 "$one" "$four"

modify $id bandwidthRead=max iopsWrite=8
holds 'rbps=max wbps=max riops=max wiops=8'
eight=$(writes 4k 64)
slower "64 writes at 8 a second, and without a limit" 3 "$eight" "$free_writes"
slower "8 MiB read at 1 MiB a second, and with writes limited" 2 "$one" "$(($(reads 64k 128) + 1))"

# Limits outlive the driver's death, and come with each stage.
/vm/driver restart
wait_for 60 "the driver answers" answers
holds 'rbps=max wbps=max riops=max wiops=8'
unpublish $id
unstage $id
holds ""
ok "unstaged, the device has no limit"
modify $id iopsWrite=16
stage $id
publish $id
holds 'rbps=max wbps=max riops=max wiops=16'
slower "64 writes at 8 a second, and at 16" 1 "$eight" "$(writes 4k 64)"
modify $id iopsWrite=max
slower "64 writes at 8 a second, and without a limit again" 3 "$eight" "$(($(writes 4k 64) + 1))"
unpublish $id
unstage $id
detach $id
delete $id
holds ""
ok "deleted"
