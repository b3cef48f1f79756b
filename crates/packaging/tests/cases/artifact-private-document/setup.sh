chmod 600 site/index.html
