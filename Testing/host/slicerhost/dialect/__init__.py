"""PythonQt's dialect of Qt, made out of PySide6: the module `qt`."""
