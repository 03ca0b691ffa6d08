//! `buildfleet completion`: scripts for shells.

use clap::CommandFactory;
use clap_complete::Shell;

use super::failure::Failure;
use super::output::print;

/// Print a script that completes this program's commands in a shell
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    shell: Shell,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::Cli::command(), "buildfleet", &mut script);
    print(with_names_of_jobs(args.shell, &String::from_utf8_lossy(&script)))
}

/// What clap knows is the same always; which Jobs there are, only the cluster says.
fn with_names_of_jobs(shell: Shell, script: &str) -> String {
    match shell {
        Shell::Bash => format!("{script}{BASH}"),
        Shell::Fish => format!("{script}{FISH}"),
        Shell::Zsh => {
            let named = ["The Job'\\''s name", "The Jobs'\\'' names"].iter().fold(script.to_owned(), |script, told| {
                script.replace(&format!("{told}:_default"), &format!("{told}:_buildfleet_jobs"))
            });
            // Its last lines call what it has defined.
            let end = named.rfind("if [ \"$funcstack").unwrap_or(named.len());
            format!("{}{ZSH}{}", &named[..end], &named[end..])
        }
        _ => script.to_owned(),
    }
}

const BASH: &str = r#"
_buildfleet_jobs() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} at place=()
    if [[ ${COMP_WORDS[1]} == job && COMP_CWORD -ge 3 && $word != -* && $before != -* ]]; then
        case ${COMP_WORDS[2]} in
            logs|wait|attach|cancel|rm)
                for ((at = 3; at < COMP_CWORD; at++)); do
                    case ${COMP_WORDS[at]} in
                        -n|--namespace|--context|--kubeconfig) place+=("${COMP_WORDS[at]}" "${COMP_WORDS[at+1]}") ;;
                    esac
                done
                COMPREPLY=($(compgen -W "$(buildfleet -q job ls "${place[@]}" --format '{{.Name}}' 2>/dev/null)" -- "$word"))
                return
                ;;
        esac
    fi
    _buildfleet "$@"
}
complete -F _buildfleet_jobs -o bashdefault -o default buildfleet
"#;

const FISH: &str = r#"complete -c buildfleet -n "__fish_buildfleet_using_subcommand job; and __fish_seen_subcommand_from logs wait attach cancel rm" -f -a "(buildfleet -q job ls --format '{{.Name}}' 2>/dev/null)"
"#;

const ZSH: &str = r#"(( $+functions[_buildfleet_jobs] )) ||
_buildfleet_jobs() {
    local -a jobs
    jobs=(${(f)"$(buildfleet -q job ls --format '{{.Name}}' 2>/dev/null)"})
    compadd -a jobs
}

"#;
