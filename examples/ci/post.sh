#!/usr/bin/env bash
# Takes away what setup.sh made for this job. It may run twice, and when setup.sh did not get far.
set -euo pipefail

state=${BUILDFLEET_CI_STATE:-${RUNNER_TEMP:-${CI_PROJECT_DIR:-$PWD}}/.buildfleet-ci}
[ -e "$state" ] || exit 0
left=
while read -r name; do
  # Who asks for one that is not there has nothing to take away.
  if buildfleet inspect "$name" >/dev/null 2>&1 && ! buildfleet rm --force "$name"; then left=yes; fi
done <"$state"
[ -z "$left" ] || exit 1
rm -f "$state"
