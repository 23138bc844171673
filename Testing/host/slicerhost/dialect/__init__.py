"""PythonQt's dialect of Qt, made out of PySide6: the modules `qt` and, with the stand-ins, `ctk`."""
