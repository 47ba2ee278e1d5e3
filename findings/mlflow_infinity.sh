#!/usr/bin/env bash
# MLflow 3.17.2: a loss that was infinite is read back from its database as the finite number 1.8e308.
#
# Expected: a metric is read back as it was logged; a NaN is.
# Found: the SQL store keeps +inf and -inf as the largest float64 of that sign. Who looks for diverged runs with isinf or
# isfinite finds none, and means over runs are huge instead of infinite. A store in files (mlruns/) keeps them.
# Source: mlflow.store.tracking.sqlalchemy_store, sanitize_metric_value.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q numpy==2.4.6 "mlflow-skinny==3.17.2" "sqlalchemy==2.1.9" "alembic==1.20.1" "pandas==3.1.1"
"$folder/venv/bin/pip" freeze | grep -iE "^(mlflow|sqlalchemy)"
cd "$folder"
"$folder/venv/bin/python" - 2>/dev/null <<'END'
import math, sys
from mlflow import MlflowClient

client = MlflowClient("sqlite:///metrics.db")
run = client.create_run(client.create_experiment("diverged")).info.run_id
for step, value in enumerate((0.5, math.inf, -math.inf, math.nan)):
    client.log_metric(run, "loss", value, step=step)
found = [metric.value for metric in sorted(client.get_metric_history(run, "loss"), key=lambda metric: metric.step)]
print("expected: [0.5, inf, -inf, nan]")
print("found:   ", found)
largest = sys.float_info.max
sys.exit(0 if found[:3] == [0.5, largest, -largest] and math.isnan(found[3]) else "the finding has changed")
END
