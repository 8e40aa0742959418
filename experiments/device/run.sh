#!/bin/bash
# From a budget of memory to a file that keeps it, four times; then the table. Two and a half hours on two cores.
# bash experiments/device/run.sh, in a folder with cifar10.npz; what is done is not done again.
set -euo pipefail
here=$(dirname "$(realpath "$0")")

one() { # name, architecture, width, ram, further arguments of train
  name=$1 architecture=$2 width=$3 ram=$4
  shift 4
  attnpool train "$architecture" --width "$width" --config "$here/train.yaml" --output "runs/device/$name" --resume "$@"
  attnpool export "runs/device/$name" --to micro --ram "$ram" --images 2000 --min-agreement 0.95 --overwrite
}

for budget in 256 128; do
  for kind in strided attention; do attnpool fit --config "$here/fit-$budget-$kind.yaml"; done
done
# What follows is the first line of each table.
one 256-strided mobilenet-skip-1222121 0.5 256kB
one 256-attention mobilenet-nlp_headfix2_nowin_reduced4021010-2122121 0.35 256kB --query-blocks 8
one 128-strided mobilenetv1-skip-21222 0.5 128kB
one 128-attention mobilenetv1-nlp_headfix2_nowin_reduced40210-21241 0.25 128kB --query-blocks 4
python "$here/table.py"
