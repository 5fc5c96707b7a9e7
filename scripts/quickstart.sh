#!/usr/bin/env bash
# From nothing to a trained, evaluated model and predictions, on the sample radiographs of the bundle.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh
echo "1/4 installing into .venv"
prepare .venv
bundle=bundles/chest_radiograph_classification
run() { python -m monai.bundle run "$1" --bundle_root "$bundle" --config_file "$2"; }
echo "2/4 training on the sample ($bundle/sample_data)"
run training "$bundle/configs/train.json"
echo "3/4 evaluating the best model on the test patients"
run evaluate "['$bundle/configs/train.json','$bundle/configs/evaluate.json']"
echo "4/4 predicting for every file below the sample folder"
run inference "$bundle/configs/inference.json"
cat <<TEXT

Done. Everything is below $bundle:
  models/model.pt                      the best model (by the validation patients' mean AUROC)
  output/training/history.csv          one row per epoch; output/training/tensorboard for curves
  output/training/checkpoint.pt        the state from which training can go on (--resume true)
  output/evaluation/metrics.json       AUROC with 95 % intervals; metrics.csv is the same as a table
  output/inference/predictions.csv     one row per image
  output/inference/rejected.csv        one row per file that is no radiograph, with the reason
  output/inference/files.csv           one row per file, with what became of it
TEXT
echo "AUROC of the $(($(wc -l < "$bundle/output/evaluation/metrics.csv") - 2)) classes and their mean, with 95 % intervals:"
awk -F, 'NR > 1 { printf "  %-20s %.2f (%.2f to %.2f)\n", $1, $7, $8, $9 }' "$bundle/output/evaluation/metrics.csv"
echo "The sample is small and confounded: these numbers show that the software works, and no medical skill."
