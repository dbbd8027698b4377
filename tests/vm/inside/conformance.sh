# The driver alone, with one pool at /pool/default, and the CSI conformance suite against it.

# one_pool BACKEND
one_pool() {
  cat >/run/pools.toml <<TOML
[[pool]]
name = "default"
backend = "$1"
path = "/pool/default"
create = true
TOML
}

# The driver is killed and started between the calls.
conforms() {
  /vm/driver start
  wait_for 60 "the driver's socket" test -S /run/csi.sock
  if ! holdfast csi-check unix:///run/csi.sock --restart-command '/vm/driver restart' >/run/csi-check 2>&1; then
    grep -Ev '^(passed|skipped) ' /run/csi-check
    fail "the conformance suite"
  fi
  no_volumes
  /vm/driver kill
  ok "CSI conformance: $(tail -n 1 /run/csi-check)"
}

no_volumes() {
  local left
  left=$(ls /pool/default/volumes) || fail "the pool has no folder of volumes"
  equal "what is left of volumes" "" "$left"
}
