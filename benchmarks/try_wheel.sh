#!/usr/bin/env bash
# The wheel as a user has it: built here, installed into a new environment with what pip finds (or with the pins in PINS), and
# run in an empty folder. PYTHON is the interpreter. Prints versions and test metrics, and leaves nothing behind but the
# environment, if KEEP names a folder for it.
set -euo pipefail
repository="$(cd "$(dirname "$0")/.." && pwd)"
room="$(mktemp -d)"
trap 'rm -rf "$room"' EXIT
begun=$SECONDS
environment="${KEEP:-$room/venv}"
rm -rf "$environment"
"$PYTHON" -m venv "$environment"
bin="$(cd "$environment" && pwd)/bin"
pins=(); [ -z "${PINS:-}" ] || pins=(-c "$repository/$PINS")
"$bin/pip" install --quiet --no-compile --upgrade 'pip<27'
"$bin/pip" wheel --quiet --no-deps --wheel-dir "$room" "$repository"
"$bin/pip" install --quiet --no-compile "${pins[@]}" "$(ls "$room"/*.whl)[text]"
mkdir "$room/empty" && cd "$room/empty"
if ! "$bin/mmm4rec" train --dataset=ml-100k > first.log 2>&1 && grep -q "^error: RecBole is not installed: " first.log; then
    way_out="$(sed -n 's/^error: RecBole is not installed: pip //p' first.log)"
    echo "as the error says: pip $way_out"
    "$bin/pip" $way_out --quiet "${pins[@]}"
fi
rm -rf ./*
echo "installed in $((SECONDS - begun)) s"
"$bin/mmm4rec" doctor | sed '/^RecBole.s repairs/,/^$/d'
"$bin/mmm4rec" prep recbole ml-100k
"$bin/mmm4rec" prep embed ml-100k 2> /dev/null
short=(--dataset=ml-100k --epochs=1 --MAX_ITEM_LIST_LENGTH=10 --show_progress=False --state=WARNING)
"$bin/mmm4rec" train --model=MMM4Rec "${short[@]}" --config_files=properties/model/MMM4Rec-small.yaml
"$bin/mmm4rec" train --model=SASRec "${short[@]}"
echo "done in $((SECONDS - begun)) s: $("$bin/python" --version)"
