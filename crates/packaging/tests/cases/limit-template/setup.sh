head -c 1100000 /dev/zero | tr '\0' x | fold -w 100 | sed 's/^/  /' >> template.yaml
printf '\nResources:\n  Topic:\n    Type: AWS::SNS::Topic\n' >> template.yaml
