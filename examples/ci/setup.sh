#!/usr/bin/env bash
# Gives a CI job a builder of its own. post.sh takes it away; where nothing gets to run post.sh, `buildfleet gc` does when the
# builder's time is over, and so does the next job's setup.
set -euo pipefail

usage() {
  cat <<'USAGE'
usage: setup.sh [CREATE-OPTION...]     as in: setup.sh --driver-opt replicas=2

Installs buildfleet when there is none on PATH, creates a builder and prints its name, for $BUILDX_BUILDER. CREATE-OPTIONs are those
of `buildfleet create`; without a --driver it is kubernetes.

Variables:
  BUILDFLEET_CI_NAMESPACE  the namespace of the builder's pods (default: that of the kubeconfig's context)
  BUILDFLEET_CI_TTL        how long after its last build `buildfleet gc` leaves the builder of a job that was killed (default 6h);
                           an empty one leaves it to what gc is told
  BUILDFLEET_CI_PACKAGE    an archive of scripts/package to install from, when buildfleet is not on PATH
  BUILDFLEET_CI_STATE      file that tells post.sh the builder's name (default: in the CI system's folder for the job)
USAGE
}

case ${1-} in -h | --help) usage; exit 0 ;; esac
state=${BUILDFLEET_CI_STATE:-${RUNNER_TEMP:-${CI_PROJECT_DIR:-$PWD}}/.buildfleet-ci}

if ! command -v buildfleet >/dev/null; then
  package=${BUILDFLEET_CI_PACKAGE:?no buildfleet on PATH: name an archive of scripts/package to install}
  unpacked=$(mktemp -d)
  tar --extract --gzip --strip-components 1 --directory "$unpacked" --file "$package"
  "$unpacked/install" --user >&2
  rm -rf "$unpacked"
  PATH=$HOME/.local/bin:$PATH
  if [ -n "${GITHUB_PATH-}" ]; then echo "$HOME/.local/bin" >>"$GITHUB_PATH"; fi
fi

# Of this run, this attempt and this job of a matrix: another may run on the same machine.
unique=$(od -An -N4 -tx1 /dev/urandom | tr -d ' \n')
name=ci-${GITHUB_RUN_ID:-${CI_JOB_ID:-job}}-$unique

# Noted before it is there, so that a job that ends meanwhile takes it away as well.
echo "$name" >>"$state"
case " $* " in *" --driver "* | *" --driver="*) ;; *) set -- --driver kubernetes "$@" ;; esac
where=()
ttl=${BUILDFLEET_CI_TTL-6h}
if [ -n "$ttl" ]; then set -- "$@" --driver-opt "ttl=$ttl"; fi
if [ -n "${BUILDFLEET_CI_NAMESPACE-}" ]; then
  where=(--namespace "$BUILDFLEET_CI_NAMESPACE")
  set -- "$@" --driver-opt "namespace=$BUILDFLEET_CI_NAMESPACE"
fi
# Builders of jobs that nobody was left to take away.
buildfleet gc "${where[@]}" >&2 || echo "setup: what earlier jobs left could not be collected" >&2
buildfleet create --name "$name" "$@"
if [ -n "${GITHUB_ENV-}" ]; then echo "BUILDX_BUILDER=$name" >>"$GITHUB_ENV"; fi
