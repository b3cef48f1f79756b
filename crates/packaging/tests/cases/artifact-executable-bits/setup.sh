printf '#!/bin/sh\n' > src/bootstrap
chmod 755 src/bootstrap
printf '#!/bin/sh\n' > src/owner-only
chmod 700 src/owner-only
