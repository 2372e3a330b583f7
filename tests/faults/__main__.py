"""``python -m tests.faults``: every campaign in full; the code is 1 if one of them found a violation."""

import subprocess
import sys

#: Each campaign, and what it is given.
CAMPAIGNS = {
    "payloads": ["--payloads", "400"],
    "flips": ["--flips", "100"],
    "kills": ["--kills", "100"],
    "ranks": ["--kills", "30"],
    "signals": ["--signals", "150"],
    "full_disk": ["--limits", "60"],
    "texts": ["--texts", "20"],
    "served": ["--attacks", "230"],
    "certificates": ["--pairs", "100000"],
}

if __name__ == "__main__":
    failed = []
    for name, options in CAMPAIGNS.items():
        print(f"\n## {name} {' '.join(options)}\n", flush=True)
        if subprocess.run([sys.executable, "-m", f"tests.faults.{name}", *options], check=False).returncode:
            failed.append(name)
    print(f"\nviolations in {', '.join(failed)}" if failed else "\nno violation")
    sys.exit(bool(failed))
