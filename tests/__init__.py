"""The tests, laid out as the source is; `contract` asks every promise of every public function."""

from pathlib import Path

ROOT = Path(__file__).parent.parent
DATA = ROOT.parent / "shared" / "data"  # real data, where it lies beside the checkout
