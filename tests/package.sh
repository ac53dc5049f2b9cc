#!/usr/bin/env bash
# Installs a Debian package in a clean root, serves from there, upgrades to itself under load, and removes it without a trace.
#
#   tests/package.sh PACKAGE LOADTEST      the package, and the program that plays backend and clients (target/release/loadtest)
#
# Needs root, debootstrap, curl, and a Debian mirror; RINGWAY_CLEAN_ROOT names a root that debootstrap has made before, which is copied.
set -euo pipefail

package=$(realpath "$1")
loadtest=$(realpath "$2")
folder=$(mktemp -d "${TMPDIR:-/tmp}/ringway-clean-root.XXXXXX")
root="$folder/root"
pids=()
end() {
    [ "${#pids[@]}" = 0 ] || kill "${pids[@]}" 2>/dev/null || true
    mountpoint -q "$root/proc" && umount "$root/proc"
    rm -rf "$folder"
}
trap end EXIT
fail() { echo "package: $*" >&2; exit 1; }
inside() { chroot "$root" "$@"; }
# What is there, less what the package manager writes about itself.
files() { (cd "$root" && find . -path ./proc -prune -o -print | grep -vE '^\./(var/(lib/dpkg|log|cache)|tmp)(/|$)' | LC_ALL=C sort); }

if [ -n "${RINGWAY_CLEAN_ROOT:-}" ]; then
    cp -a "$RINGWAY_CLEAN_ROOT" "$root"
else
    mirror=$(grep -rhoE '^URIs: .*' /etc/apt/sources.list.d 2>/dev/null | head -1 | cut -d' ' -f2 || true)
    suite=$(. /etc/os-release && echo "${VERSION_CODENAME:?}")
    debootstrap --variant=minbase "$suite" "$root" ${mirror:+"$mirror"} >"$folder/debootstrap.log" 2>&1 ||
        { tail -5 "$folder/debootstrap.log" >&2; fail "no clean root"; }
fi
mkdir -p "$root/proc"
mount -t proc proc "$root/proc"
files >"$folder/before"

echo "== Installed"
cp "$package" "$root/tmp/ringway.deb"
inside dpkg -i /tmp/ringway.deb
inside ringway --version
inside ringway check /etc/ringway/ringway.toml
for file in man/man1/ringway.1.gz man/man1/ringway-key-create.1.gz bash-completion/completions/ringway doc/ringway/sbom.cdx.json; do
    [ -s "$root/usr/share/$file" ] || fail "$file is missing"
done

echo "== Serves"
"$loadtest" gpusim --instant --listen 127.0.0.1:8000 >"$folder/backend.log" 2>&1 &
pids+=($!)
inside ringway serve /etc/ringway/ringway.toml >"$folder/gateway.log" 2>&1 &
pids+=($!)
for _ in $(seq 100); do
    curl -fs -o "$folder/ready" http://127.0.0.1:9090/readyz && break
    sleep 0.1
done
body='{"model":"llama-3.3-70b","messages":[{"role":"user","content":"Hello"}]}'
curl -fsS -H 'content-type: application/json' -d "$body" http://127.0.0.1:8080/v1/chat/completions >"$folder/response"
grep -q '"choices"' "$folder/response" || fail "no response: $(cat "$folder/response")"

echo "== Upgraded to itself under load"
"$loadtest" drive --url http://127.0.0.1:8080 --model llama-3.3-70b --connections 16 --duration 6 >"$folder/drive" 2>&1 &
drive=$!
sleep 2
inside dpkg -i /tmp/ringway.deb
told=$(inside ringway upgrade /etc/ringway/ringway.toml)
next=$(grep -oE '[0-9]+' <<<"$told") || fail "no upgrade: $told"
pids+=("$next")
wait "$drive" || { cat "$folder/drive" >&2; fail "the load failed"; }
grep -E 'requests ' "$folder/drive"
grep -Eq 'sent, [1-9][0-9]* good, 0 failed' "$folder/drive" || fail "requests failed during the upgrade"

echo "== Removed"
kill "${pids[@]}" 2>/dev/null || true
sleep 2
inside dpkg --purge ringway
rm -f "$root/tmp/ringway.deb"
files >"$folder/after"
diff "$folder/before" "$folder/after" || fail "something is left"
echo "nothing is left"
