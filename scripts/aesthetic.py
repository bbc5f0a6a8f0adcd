"""Entry point for the WebUI: loads the package and shows it the script class."""

import importlib.util
import sys
from pathlib import Path

# Under a name of its own: the old extension has a module called aesthetic_clip as well.
# Afresh each time: the WebUI runs this file again on Reload UI, and an updated extension should then be new.
NAME = "sd_webui_aesthetic_gradients"
for name in [name for name in sys.modules if name.partition(".")[0] == NAME]:
    del sys.modules[name]
folder = Path(__file__).resolve().parents[1] / "aesthetic_clip"
spec = importlib.util.spec_from_file_location(NAME, folder / "__init__.py", submodule_search_locations=[str(folder)])
assert spec is not None and spec.loader is not None
sys.modules[NAME] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules[NAME])

HOST = f"{NAME}.hosts.a1111"
if sentence := importlib.import_module(f"{HOST}.known").unknown_host():
    print(sentence)
    AestheticScript = importlib.import_module(f"{HOST}.unknown").AestheticScript
else:
    AestheticScript = importlib.import_module(f"{HOST}.script").AestheticScript
    importlib.import_module(f"{HOST}.callbacks").register()
