# CSI calls from a case, for what no orchestrator in the machine asks for. curl speaks HTTP/2, and protobuf
# (protobuf.dev, "Encoding") is written by these: each prints a field, the number first.

byte() { printf "\\$(printf %03o "$1")"; }
varint() {
  local left=$1
  while [ "$left" -ge 128 ]; do
    byte $((left % 128 + 128))
    left=$((left / 128))
  done
  byte "$left"
}
number() { varint $(($1 * 8)) && varint "$2"; }
text() { varint $(($1 * 8 + 2)) && varint ${#2} && printf %s "$2"; }
# A message in a message; its fields come from stdin.
message() {
  local inner
  inner=$(mktemp)
  cat >"$inner"
  varint $(($1 * 8 + 2)) && varint "$(wc -c <"$inner")" && cat "$inner"
  rm "$inner"
}
# pairs FIELD NAME=VALUE…: a map.
pairs() {
  local field=$1 pair
  shift
  for pair in "$@"; do { text 1 "${pair%%=*}" && text 2 "${pair#*=}"; } | message "$field"; done
}
# SINGLE_NODE_WRITER, mounted with the default file system.
capability() { { printf '' | message 2 && number 1 1 | message 3; } | message "$1"; }

# call SERVICE/METHOD: the request comes from stdin.
call() {
  local length
  cat >/run/request
  length=$(wc -c </run/request)
  { byte 0 && byte 0 && byte 0 && byte $((length / 256)) && byte $((length % 256)) && cat /run/request; } >/run/frame
  curl --silent --show-error --http2-prior-knowledge --unix-socket "${csi_socket:-/run/csi.sock}" \
    --header 'content-type: application/grpc' --header 'te: trailers' --data-binary @/run/frame \
    --dump-header /run/headers --output /run/answer "http://csi/csi.v1.$1" || fail "$1: curl ended with $?"
  grep -q '^grpc-status: 0' /run/headers || fail "$1: $(tr -d '\r' </run/headers | grep '^grpc-')"
}

# create NAME MIB; then stage and publish ID at /run/staging-ID and /run/pod-ID, and back.
create() { { text 1 "$1" && number 1 $(($2 * 1048576)) | message 2 && capability 3; } | call Controller/CreateVolume; }
modify() {
  local id=$1
  shift
  { text 1 "$id" && pairs 3 "$@"; } | call Controller/ControllerModifyVolume
}
attach() { { text 1 "$1" && text 2 vm && capability 3; } | call Controller/ControllerPublishVolume; }
stage() {
  mkdir -p "/run/staging-$1"
  { text 1 "$1" && text 3 "/run/staging-$1" && capability 4; } | call Node/NodeStageVolume
}
publish() {
  { text 1 "$1" && text 3 "/run/staging-$1" && text 4 "/run/pod-$1" && capability 5; } | call Node/NodePublishVolume
}
unpublish() { { text 1 "$1" && text 2 "/run/pod-$1"; } | call Node/NodeUnpublishVolume; }
unstage() { { text 1 "$1" && text 2 "/run/staging-$1"; } | call Node/NodeUnstageVolume; }
detach() { { text 1 "$1" && text 2 vm; } | call Controller/ControllerUnpublishVolume; }
delete() { text 1 "$1" | call Controller/DeleteVolume; }
