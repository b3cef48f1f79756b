printf '%.0s[' $(seq 2000) >> template.yaml
printf '%.0s]' $(seq 2000) >> template.yaml
echo >> template.yaml
