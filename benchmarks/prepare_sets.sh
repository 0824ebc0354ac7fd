#!/usr/bin/env bash
# The data sets of the comparisons, prepared and embedded: prepare_sets.sh PYTHON DATA NAME …
# TEXT_ENCODER and IMAGE_ENCODER name other encoders than the tables were measured with.
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
text() { prep embed "$1" --text-encoder "${TEXT_ENCODER:-all-MiniLM-L6-v2}"; }
both() { prep embed "$1" --text-encoder "${TEXT_ENCODER:-all-MiniLM-L6-v2}" --image-encoder "${IMAGE_ENCODER:-efficientnet-lite0}"; }
films() { # NAME: the ratings of the recbole package, in its order, with plots and posters of the folder
    local file table="dataset/.$1.tsv"
    file="$("$python" -c 'import importlib.util as u, pathlib as p; print(p.Path(u.find_spec("recbole").origin).parent / "dataset_example/ml-100k/ml-100k.inter")')"
    mkdir -p dataset
    cut -f 1,2,4 "$file" | sed '1s/:[a-z]*//g' > "$table"
    prep table --interactions "$table" --items "$data/ml-100k/items.tsv.gz" --images "$data/ml-100k/images" --name "$1"
    rm "$table"
}
posters() { # NAME FOLDER
    prep images "$1" --images "$data/$2/images"
    both "$1"
}
for name in "$@"; do # all that is missing is told before anything is made
    case "$name" in
        demo | ml-100k | shops | shops-films) ;;
        ml-100k-posters) need ml-100k/items.tsv.gz ml-100k/images ;;
        ml-1m-30 | ml-1m-posters) need ml-1m/sequences.tsv.gz ml-1m/items.tsv.gz ml-1m/images ;;
        online-retail | online-retail-30) need online-retail/interactions.tsv.gz online-retail/items.tsv.gz ;;
        *) need "$name/sequences.tsv.gz" "$name/items.tsv.gz" ;;
    esac
done
for name in "$@"; do
    case "$name" in
        demo) prep demo; both demo ;;
        ml-100k) prep recbole ml-100k; text ml-100k ;;
        ml-100k-posters) films "$name"; posters "$name" ml-100k ;;
        ml-1m-30) sequences "$name" ml-1m --images "$data/ml-1m/images" --latest 30; posters "$name" ml-1m ;;
        ml-1m-posters) sequences "$name" ml-1m --images "$data/ml-1m/images"; posters "$name" ml-1m ;;
        online-retail) table "$name" "$name"; text "$name" ;;
        online-retail-30) table "$name" online-retail --latest 30; text "$name" ;;
        shops) prep merge office beauty-2014 toys-2014 games-2018 --name shops ;;
        shops-films) prep merge office beauty-2014 toys-2014 games-2018 ml-1m --name shops-films ;;
        *) sequences "$name" "$name"; text "$name" ;;
    esac
done
