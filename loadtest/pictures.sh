#!/usr/bin/env bash
# Runs `mixed` and `kick` and draws their reports for the README, by day and by night, into docs/pictures.
# Wants a quiet machine, chromium, and the fonts of Debian's package fonts-inter (others do as well, less prettily).
#
#   make pictures                  runs both
#   make pictures RESULTS=DIR      draws DIR/mixed.json and DIR/kick.json, which were measured before
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
results=${1:-}

if [ -z "$results" ]; then
    results=build/pictures
    mkdir -p "$results"
    # `mixed` drains the node: with the spread of a real one its clients would be away for longer than the run shows.
    "$python" -m loadtest run mixed --start "gateway serve --drain-s 1 --reconnect-spread-ms 500" --pin --json "$results/mixed.json"
    "$python" -m loadtest run kick --start "" --pin --json "$results/kick.json"
fi
mkdir -p docs/pictures
for scenario in mixed kick; do
    for scheme in light dark; do
        "$python" -m loadtest.picture "$results/$scenario.json" "docs/pictures/$scenario-$scheme.png" \
            --scheme "$scheme" --width 1160 --height 1690
    done
done
