"""Completion of the command ``ziggurat`` in a shell: of commands, of options and their choices, and of configs' names.

The shell's function asks ``ziggurat complete WORD ...``, which takes some hundredths of a second. The shell itself
completes paths.
"""

import json

from ziggurat.root import PACKAGE, config_files

# Command -> option -> its choices, or null for an option without a value, or [] for one with any. Made by
# tools/docs/options_table.py.
OPTIONS = PACKAGE / "options.json"
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
TAKE_CONFIGS = ("train", "test", "predict", "distill", "check-data", "browse-data", "convert-data", "info", "configs")
TAKE_CONFIGS += ("print-config", "benchmark")
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
        options = json.loads(OPTIONS.read_text()).get(before[0], {})
        choices = options.get(before[-1])
        if word.startswith("-"):
            found = options
        elif choices is not None or len(before) > 2:  # the value of an option, or an image
            found = choices or ()
        else:
            found = config_files() if before[0] in TAKE_CONFIGS else ()
    return sorted(name for name in found if name.startswith(word))
