#!/usr/bin/env bash
# The data sets of the comparisons, prepared and embedded: prepare_sets.sh PYTHON DATA NAME …
# DATA is the folder of NAME/sequences.tsv.gz or NAME/interactions.tsv.gz, with items.tsv.gz and images/ (docs/data.md, "For the benchmarks").
set -euo pipefail
python="$1" data="$2"
shift 2
prep() { "$python" -m dataset_prep "$@"; }
need() {
    for file in "$@"; do
        test -e "$data/$file" || { echo "error: DATA=$data: there is no $data/$file; docs/data.md says how to get it, \`make benchmark-quick\` needs no files" >&2; exit 2; }
    done
}
sequences() { # NAME FOLDER OPTION …
    need "$2/sequences.tsv.gz" "$2/items.tsv.gz"
    prep sequences --sequences "$data/$2/sequences.tsv.gz" --items "$data/$2/items.tsv.gz" --name "$1" "${@:3}"
}
table() { # NAME FOLDER OPTION …
    need "$2/interactions.tsv.gz" "$2/items.tsv.gz"
    prep table --interactions "$data/$2/interactions.tsv.gz" --items "$data/$2/items.tsv.gz" --name "$1" "${@:3}"
}
both() { prep embed "$1" --text-encoder all-MiniLM-L6-v2 --image-encoder efficientnet-lite0; }
posters() { # NAME FOLDER
    prep images "$1" --images "$data/$2/images"
    both "$1"
}
for name in "$@"; do # all that is missing is told before anything is made
    case "$name" in
        demo | ml-100k | shops | shops-films) ;;
        ml-100k-posters) need ml-100k/interactions.tsv.gz ml-100k/items.tsv.gz ml-100k/images ;;
        ml-1m-30 | ml-1m-posters) need ml-1m/sequences.tsv.gz ml-1m/items.tsv.gz ml-1m/images ;;
        online-retail | online-retail-30) need online-retail/interactions.tsv.gz online-retail/items.tsv.gz ;;
        *) need "$name/sequences.tsv.gz" "$name/items.tsv.gz" ;;
    esac
done
for name in "$@"; do
    case "$name" in
        demo) prep demo && both demo ;;
        ml-100k) prep recbole ml-100k && prep embed ml-100k ;;
        ml-100k-posters) table "$name" ml-100k --images "$data/ml-100k/images" && posters "$name" ml-100k ;;
        ml-1m-30) sequences "$name" ml-1m --images "$data/ml-1m/images" --latest 30 && posters "$name" ml-1m ;;
        ml-1m-posters) sequences "$name" ml-1m --images "$data/ml-1m/images" && posters "$name" ml-1m ;;
        online-retail) table "$name" "$name" && prep embed "$name" ;;
        online-retail-30) table "$name" online-retail --latest 30 && prep embed "$name" ;;
        shops) prep merge office beauty-2014 toys-2014 games-2018 --name shops ;;
        shops-films) prep merge office beauty-2014 toys-2014 games-2018 ml-1m --name shops-films ;;
        *) sequences "$name" "$name" && prep embed "$name" ;;
    esac
done
