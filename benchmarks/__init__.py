"""Programs that measure the toolkit; `make help` lists them."""

import os

# one thread a process, as every verb of the toolkit has it; read when numpy and torch are first imported
os.environ.setdefault("OMP_NUM_THREADS", "1")
