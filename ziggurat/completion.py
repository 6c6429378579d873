"""Completion of the command ``ziggurat`` in a shell: of commands, options and their choices, configs, archs, weights.

The shell's function asks ``ziggurat complete WORD ...``, which takes some hundredths of a second. The shell itself
completes paths.
"""

import json

from ziggurat.root import PACKAGE, config_files

# Made by tools/docs/options_table.py. "options" is command -> option -> its choices, or null for an option without a
# value, or [] for one with any. "archs" and "weights" are the names that commands take.
TABLE = PACKAGE / "options.json"
BASH = """_ziggurat() {
    local word=${COMP_WORDS[COMP_CWORD]}
    COMPREPLY=($(compgen -W "$(ziggurat complete "${COMP_WORDS[@]:1:COMP_CWORD}")" -- "$word"))
    [ ${#COMPREPLY[@]} -gt 0 ] || compopt -o default
}
complete -F _ziggurat ziggurat
"""
ZSH = """#compdef ziggurat
_ziggurat() {
    local -a found
    found=(${(f)"$(ziggurat complete "${(@)words[2,CURRENT]}")"})
    compadd -- $found || _files
}
compdef _ziggurat ziggurat
"""
FISH = """complete -c ziggurat -a '(ziggurat complete (commandline -opc)[2..] (commandline -ct))'
"""
PARALLEL = ("train", "test", "features", "distill", "knn", "probe")  # commands that several processes can share
# What the arguments of each command name.
NAMED = {
    "train": ("configs",),
    "test": ("configs", "weights"),
    "predict": ("configs", "weights"),
    "export": ("archs", "weights", "configs"),
    "features": ("weights", "archs"),
    "explore": ("archs", "weights"),
    "knn": ("weights", "archs"),
    "probe": ("weights", "archs"),
    "check-data": ("configs",),
    "browse-data": ("configs",),
    "convert-data": ("configs",),
    "info": ("archs", "configs"),
    "configs": ("configs",),
    "print-config": ("configs",),
    "benchmark": ("configs",),
}
NAMED_BY_OPTIONS = {
    "--pretrained": ("weights",),
    "--arch": ("archs",),
    "--student": ("archs",),
    "--config": ("configs",),
}
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


def words_for(words: list[str], commands: list[str]) -> list[str]:
    """What the last of ``words`` may become. ``words`` are those after ``ziggurat``, the last one perhaps empty."""
    *before, word = words or [""]
    if before[:1] == ["launch"]:  # GPUS COMMAND ...
        if len(before) > 2:
            return words_for([*before[2:], word], commands)
        found = PARALLEL if len(before) == 2 else ()
    elif before[:1] in (["help"], []):
        found = commands if len(before) < 2 else ()
    elif before == ["completion"]:
        found = SCRIPTS
    else:
        table = json.loads(TABLE.read_text())
        options = table["options"].get(before[0], {})
        choices = options.get(before[-1])
        if word.startswith("-"):
            found = options
        elif choices is not None:  # the value of an option
            found = choices or names(NAMED_BY_OPTIONS.get(before[-1], ()), table)
        else:
            found = names(NAMED.get(before[0], ()) if len(before) < 3 else (), table)
    return sorted(name for name in found if name.startswith(word))


def names(kinds: tuple[str, ...], table: dict[str, list[str]]) -> list[str]:
    """The names of these kinds."""
    return [name for kind in kinds for name in (config_files() if kind == "configs" else table[kind])]
