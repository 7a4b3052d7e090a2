#!/usr/bin/env bash
# Installs the Debian packages that Wildlane (`run`), its tests (`test`) or drills (`drill`) need and that are missing; says so where it may not.
set -euo pipefail

# libGL, GLib and xcb: opencv-python links them, a bare server lacks them.
run_packages=(libgl1 libglib2.0-0 libxcb1)
# A real broker, a real web server, a real RTSP server (GStreamer's), a real encoder, a real browser, systemd's own judgement.
test_packages=(mosquitto mosquitto-clients caddy jq procps ffmpeg python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base
  gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly gstreamer1.0-x chromium systemd)
# A Debian root of its own, booted under a systemd of its own.
drill_packages=(debootstrap systemd-container)

case "${1:-}" in
  run) wanted=("${run_packages[@]}") ;;
  test) wanted=("${test_packages[@]}") ;;
  drill) wanted=("${drill_packages[@]}") ;;
  *) echo "usage: $0 run|test|drill" >&2; exit 2 ;;
esac

if ! command -v dpkg-query >/dev/null; then
  exit 0 # not Debian: a missing library or server names itself when it is used
fi
missing=()
for package in "${wanted[@]}"; do
  # newer releases renamed libglib2.0-0 to libglib2.0-0t64
  status=$(dpkg-query -W -f='${db:Status-Status}\n' "$package" "${package}t64" 2>/dev/null || true)
  grep -qx installed <<<"$status" || missing+=("$package")
done
[ "${#missing[@]}" -eq 0 ] && exit 0

sudo=()
if [ "$(id -u)" -ne 0 ]; then
  if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    sudo=(sudo -n)
  else
    echo "Wildlane needs Debian packages that only root may install. Run this, then try again:" >&2
    echo "  sudo apt-get update && sudo apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 1
  fi
fi
echo "installing: ${missing[*]}"
"${sudo[@]}" apt-get update -qq
DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
