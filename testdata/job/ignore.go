//go:build ignore

// Fills the first column of ignore.txt with what BuildKit's clients say; run where github.com/moby/patternmatcher is a
// dependency, as in scripts/rig/buildx: go run ignore.go <ignore.txt >new.txt
package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

func main() {
	rows := bufio.NewScanner(os.Stdin)
	for rows.Scan() {
		if strings.HasPrefix(rows.Text(), "#") {
			fmt.Println(rows.Text())
			continue
		}
		row := strings.Split(rows.Text(), "\t")
		patterns, err := ignorefile.ReadAll(strings.NewReader(strings.ReplaceAll(row[1], "|", "\n")))
		if err != nil {
			panic(err)
		}
		matcher, err := patternmatcher.New(patterns)
		if err != nil {
			panic(err)
		}
		// As a walk does: each directory hands on what matched it.
		var info patternmatcher.MatchInfo
		var out bool
		for at, char := range row[2] + "/" {
			if char == '/' {
				if out, info, err = matcher.MatchesUsingParentResults(row[2][:at], info); err != nil {
					panic(err)
				}
			}
		}
		fmt.Printf("%s\t%s\t%s\n", map[bool]string{true: "out", false: "in"}[out], row[1], row[2])
	}
}
