#!/usr/bin/env bash
# Checks and measurements on a bare machine with an NVIDIA GPU, PyTorch, Triton and Python 3.12, and no network.
#
#   benchmarks/gpu.sh pack [--small]   on a machine with a network: fill the folder CARRY; --small leaves RecBole out
#   benchmarks/gpu.sh                  on the GPU machine, with this repository and CARRY: install, check, measure
#
# Written to OUT: summary.txt (what ran, with its exit code and seconds), log.txt, benchmarks.md and results/*.jsonl,
# which belong into benchmarks/results. What takes too long is cut off, so that everything ends within MINUTES; the rivals
# (docs/rivals.md) come last, behind the compiling of Mamba4Rec's scan: with them it wants about twice that.
#
#   CARRY    folder of wheels and sources       (default: build/gpu-carry)
#   OUT      folder of the results              (default: build/gpu-results)
#   DEVICE   cuda, or cpu for a dry run         (default: cuda)
#   MINUTES  limit                              (default: 10)
#   PYTHON   interpreter: in packing it needs PyTorch and pip (default: .venv/bin/python if it is there, else python3)
#   TARGET   Python of the GPU machine          (default: 3.12)
#   QUICK    any text: few repetitions
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

CARRY=${CARRY:-build/gpu-carry}
OUT=${OUT:-build/gpu-results}
DEVICE=${DEVICE:-cuda}
MINUTES=${MINUTES:-10}
QUICK=${QUICK:-}
TARGET=${TARGET:-3.12}
MAMBA=mamba-ssm==2.3.2.post1
CONV=causal-conv1d==1.7.0
# what the network, the check and the measurements import beside PyTorch and Triton
SMALL=(numpy==1.26.4 safetensors==0.8.0 pyyaml==6.0.4 einops==0.8.2 packaging==26.3 ninja==1.13.2 setuptools==80.9.0 wheel==0.48.0 tqdm==4.70.1)
# RecBole and what it needs, but ray, which it bounds to versions without wheels for Python 3.12 and which is not needed to train
RECBOLE=(recbole==1.2.1 pandas==2.3.3 scipy==1.17.1 scikit-learn==1.9.1 colorlog==4.7.2 colorama==0.4.4 tensorboard==2.21.0
  thop==0.1.1.post2209072238 tabulate==0.10.0 plotly==7.1.0 texttable==1.7.2 psutil==7.2.2 joblib==1.6.0 cloudpickle==3.1.3 threadpoolctl==3.8.0
  narwhals==2.29.0 python-dateutil==4.0.0 pytz==2026.6 tzdata==2026.6 absl-py==2.5.1 grpcio==1.85.3 Markdown==3.11.3
  protobuf==7.36.2 tensorboard-data-server==0.7.2 Werkzeug==3.1.9 MarkupSafe==3.0.4 pillow==13.0.0 typing_extensions==4.16.0)

python_here() {
  if [[ -n ${PYTHON:-} ]]; then echo "$PYTHON"; elif [[ -x .venv/bin/python ]]; then echo .venv/bin/python; else command -v python3; fi
}

pack() {
  local python wanted=("${SMALL[@]}")
  python=$(python_here)
  [[ ${1:-} == --small ]] || wanted+=("${RECBOLE[@]}")
  mkdir -p "$CARRY"
  rm -f "$CARRY"/*.whl "$CARRY"/*.tar.gz
  "$python" -m pip download --quiet --no-deps --dest "$CARRY" --only-binary=:all: --implementation cp \
    --python-version "$TARGET" --abi "cp${TARGET/./}" --abi abi3 --abi none --platform manylinux_2_28_x86_64 \
    --platform manylinux_2_27_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
    --platform manylinux_2_12_x86_64 --platform manylinux2010_x86_64 --platform any "${wanted[@]}"
  # mamba-ssm's Triton kernels are plain Python: without its compiled part the wheel fits every Python
  MAMBA_FORCE_BUILD=TRUE MAMBA_SKIP_CUDA_BUILD=TRUE \
    "$python" -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir "$CARRY" "$MAMBA"
  # causal-conv1d is compiled on the GPU machine, where there is a CUDA compiler
  CAUSAL_CONV1D_FORCE_BUILD=TRUE CAUSAL_CONV1D_SKIP_CUDA_BUILD=TRUE \
    "$python" -m pip download --quiet --no-deps --no-build-isolation --no-binary=:all: --dest "$CARRY" "$CONV"
  # so is mamba-ssm's first scan, Mamba4Rec's, which is no Triton kernel
  MAMBA_FORCE_BUILD=TRUE MAMBA_SKIP_CUDA_BUILD=TRUE \
    "$python" -m pip download --quiet --no-deps --no-build-isolation --no-binary=:all: --dest "$CARRY" "$MAMBA"
  du -sh "$CARRY"
}

# run NAME LIMIT COMMAND…: at most LIMIT seconds and what is left of MINUTES; never ends the script
run() {
  local name=$1 limit=$2 code=0 begin=$SECONDS left=$((MINUTES * 60 - SECONDS))
  shift 2
  if ((left < 10)); then
    echo "$name: left out, the time is up" | tee -a "$OUT/summary.txt"
    return 0
  fi
  echo "== $name" | tee -a "$OUT/log.txt"
  timeout --kill-after=10 "$((limit < left ? limit : left))" "$@" >>"$OUT/log.txt" 2>&1 || code=$?
  echo "$name: exit $code, $((SECONDS - begin)) s" | tee -a "$OUT/summary.txt"
  FAILED=$((FAILED + (code != 0)))
}

install_carried() {
  local wheels=("$CARRY"/*.whl)
  [[ -e ${wheels[0]} ]] || { echo "CARRY=$CARRY: no wheels there; run 'benchmarks/gpu.sh pack' on a machine with a network" >&2; exit 2; }
  rm -rf "$SITE"
  run "install" 120 "$python" -m pip install --no-index --no-deps --target "$SITE" "${wheels[@]}"
  export PYTHONPATH=$SITE:$PWD
  build causal_conv1d CAUSAL_CONV1D_FORCE_BUILD "PyTorch convolves instead"
}

# build NAME VARIABLE INSTEAD: a carried source for this machine's card alone: for all of them, as its setup.py has it, takes ten times as long
build() {
  local name=$1 variable=$2 instead=$3 card
  if ! command -v nvcc >/dev/null || ! compgen -G "$CARRY/$name-*.tar.gz" >/dev/null; then
    echo "build $name: left out, no nvcc or no source; $instead" | tee -a "$OUT/summary.txt"
    return 0
  fi
  card=$("$python" -c "import torch; print('%d%d' % torch.cuda.get_device_capability() if torch.cuda.is_available() else 90)")
  rm -rf "${OUT:?}/$name"
  mkdir "$OUT/$name"
  tar xzf "$CARRY/$name"-*.tar.gz -C "$OUT/$name" --strip-components=1
  sed -i -E "s/arch=compute_[0-9]+,code=sm_[0-9]+/arch=compute_$card,code=sm_$card/" "$OUT/$name/setup.py"
  run "build $name for sm_$card" 240 env "$variable=TRUE" MAX_JOBS="$(nproc)" "$python" -m pip install \
    --no-index --no-deps --no-build-isolation --upgrade --target "$SITE" "$OUT/$name"
}

# train NAME ARGUMENT…: a short training on the small data set
train() {
  local name=$1
  shift
  run "training, $name" 120 "$python" run_recbole.py --dataset=ml-100k --data_path="$OUT/dataset" \
    --use_gpu="$([[ $DEVICE == cuda ]] && echo True || echo False)" --checkpoint_dir="$OUT/saved" --show_progress=False "$@"
}

# a single layer of Mamba4Rec needs no scan of all positions: of two, the first does
rivals() {
  if [[ $DEVICE == cuda ]]; then build mamba_ssm MAMBA_FORCE_BUILD "the plain selective scan is used instead"; fi
  run "parity of the selective scan" 60 "$python" benchmarks/check_selective.py --device "$DEVICE"
  train "Mamba4Rec, two layers" --model=Mamba4Rec --num_layers=2 --epochs=1 --MAX_ITEM_LIST_LENGTH=20
  train "TiM4Rec" --model=TiM4Rec --epochs=1 --MAX_ITEM_LIST_LENGTH=20
  train "UniSRec" --model=UniSRec --epochs=1 --MAX_ITEM_LIST_LENGTH=20
}

measure() {
  local python
  python=$(python_here)
  mkdir -p "$OUT"
  OUT=$(realpath "$OUT")
  SITE=$OUT/site
  FAILED=0
  : >"$OUT/summary.txt"
  : >"$OUT/log.txt"
  if [[ $DEVICE == cuda ]]; then
    "$python" -c "import torch; raise SystemExit(0 if torch.cuda.is_available() else 1)" || { echo "DEVICE=cuda: PyTorch finds no GPU; DEVICE=cpu makes a dry run" >&2; exit 2; }
  fi
  # a dry run in an environment that has everything installs nothing
  if [[ $DEVICE == cuda || -d $CARRY ]]; then install_carried; fi
  export PYTHONPATH=$SITE:$PWD  # also in a dry run that installs nothing
  "$python" -c "import sys, torch; print('Python', sys.version.split()[0], 'PyTorch', torch.__version__, torch.cuda.get_device_name() if torch.cuda.is_available() else 'no GPU')" | tee -a "$OUT/summary.txt"
  local quick=(${QUICK:+--quick})
  run "parity" 120 "$python" benchmarks/check_parity.py --device "$DEVICE"
  local suite
  for suite in steps floor scan catalogue; do
    run "$suite" 240 "$python" -m benchmarks --device "$DEVICE" --only "$suite" --results "$OUT/results" --out "$OUT/benchmarks.md" "${quick[@]}"
  done
  if "$python" -c "import recbole" 2>/dev/null; then
    run "data set" 60 "$python" benchmarks/gpu_data.py "$OUT/dataset"
    local precision
    for precision in False True; do
      train "MMM4Rec, enable_amp=$precision" --model=MMM4Rec --epochs=2 --enable_amp="$precision" \
        --config_files=properties/model/MMM4Rec-small.yaml
    done
    rivals
  fi
  cp build/benchmarks/*."$DEVICE".jsonl "$OUT" 2>/dev/null || true  # what a suite that was cut off has measured
  echo "$FAILED failed; $OUT/summary.txt" | tee -a "$OUT/summary.txt"
  return $((FAILED > 0))
}

case ${1:-} in
  pack) pack "${2:-}" ;;
  "") measure ;;
  *)
    echo "usage: benchmarks/gpu.sh [pack [--small]]" >&2
    exit 2
    ;;
esac
