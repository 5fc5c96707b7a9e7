#!/usr/bin/env bash
# From nothing to a trained, evaluated model and predictions, on the sample radiographs of the bundle.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh
echo "1/4 installing into .venv"
prepare .venv
bundle=bundles/chest_radiograph_classification
# MONAI warns at every start that a configuration is code
export PYTHONWARNINGS="ignore:parsing config_file:UserWarning"
run() { python -m monai.bundle run "$@" --bundle_root "$bundle"; }
echo "2/4 a short training on the sample, 12 epochs instead of 30 ($bundle/sample_data)"
run training --config_file "$bundle/configs/train.json" --max_epochs 12 --warmup_epochs 2 --learning_rate 0.001
echo "3/4 evaluating the best model on the test patients"
run evaluate --config_file "['$bundle/configs/train.json','$bundle/configs/evaluate.json']"
echo "4/4 predicting for every file below the sample folder"
run inference --config_file "$bundle/configs/inference.json"
cat <<TEXT

Results below $bundle:
models/model.pt (the best model), output/training (history, curves, and what --resume true goes on from),
output/evaluation (metrics with 95 % intervals), output/inference (a row for each file).
AUROC of each class on the test patients, and their mean:
$(awk -F, 'NR > 1 { printf "  %-20s %.2f (%.2f to %.2f)\n", $1, $7, $8, $9 }' "$bundle/output/evaluation/metrics.csv")
The sample is small and confounded: these numbers show that the software works, and no medical skill.
Next, with your own images (. .venv/bin/activate first; the README says more):
  seqnorm prepare csv --labels labels.csv --images FOLDER --output datalist.json
  seqnorm check --bundle $bundle --datalist datalist.json
  python -m monai.bundle run training --bundle_root $bundle --config_file $bundle/configs/train.json --datalist datalist.json
TEXT
