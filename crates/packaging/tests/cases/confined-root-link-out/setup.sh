mkdir ../outside
echo secret > ../outside/secret.txt
ln -s ../outside src
