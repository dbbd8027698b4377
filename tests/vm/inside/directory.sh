# For the cases of the backend `directory`, with a file system at /pool that can limit a folder's size.
#
# df=yes when statvfs inside of a volume tells the volume's size, df=no when it tells the file system's.
. /vm/volumes.sh
. /vm/capacity.sh
. /vm/conformance.sh
mib=1048576

one_pool directory

# size_is FOLDER BYTES
size_is() {
  holds "$1" "$2"
  [ "$df" = no ] || shows_full "$1" "$2"
}

# The whole way from a claim to a full volume.
sizes_are_enforced() {
  holdfast driver check-config /run/pools.toml
  up_start
  volume first 64Mi
  first=$path
  size_is "$first" $((64 * mib))
  ok "a claim of 64Mi holds that and no more"

  volume second 32Mi
  size_is "$path" $((32 * mib))
  ok "a second volume beside a full one has a limit of its own"

  grow first 96Mi
  wait_for 60 "the first volume has grown" claim_has first 96Mi
  size_is "$first" $((96 * mib))
  ok "grown while mounted, it holds 96Mi"

  # Volumes made by a new process must not share a limit or a usage with older ones, gone ones included.
  up_kill
  up_start
  remove second
  volume third 48Mi
  [ "$df" = no ] || nearly "what is available in a new volume" $((48 * mib)) "$(available "$path")"
  size_is "$path" $((48 * mib))
  size_is "$first" $((96 * mib))
  ok "after kill -9, a new volume has a limit and a usage of its own"

  remove first
  remove third
  no_volumes
  ok "deleted, nothing is left in the pool"
  up_stop
}
