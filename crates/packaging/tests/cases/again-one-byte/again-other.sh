printf '!' >> src/run.sh
