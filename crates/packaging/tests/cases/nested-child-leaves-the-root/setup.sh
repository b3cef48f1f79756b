mkdir ../outside
echo secret > ../outside/secret.txt
