// Command hashring prints the node that serialx/hashring has for each key: nodes are arguments, keys lines of stdin.
package main

import (
	"bufio"
	"fmt"
	"os"

	"github.com/serialx/hashring"
)

func main() {
	ring := hashring.New(os.Args[1:])
	out := bufio.NewWriter(os.Stdout)
	keys := bufio.NewScanner(os.Stdin)
	for keys.Scan() {
		node, ok := ring.GetNode(keys.Text())
		if !ok {
			fmt.Fprintln(os.Stderr, "hashring: no nodes are given")
			os.Exit(1)
		}
		fmt.Fprintln(out, node)
	}
	if err := keys.Err(); err != nil {
		fmt.Fprintln(os.Stderr, "hashring:", err)
		os.Exit(1)
	}
	if err := out.Flush(); err != nil {
		fmt.Fprintln(os.Stderr, "hashring:", err)
		os.Exit(1)
	}
}
