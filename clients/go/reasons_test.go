// Copyright 2026 The Recollect Authors
// SPDX-License-Identifier: Apache-2.0

package recollect

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	pb "github.com/recollect-ai/recollect/clients/go/recollectv1"
)

func TestTheReasonsAreThoseOfTheContract(t *testing.T) {
	source, err := os.ReadFile("reasons.go")
	if err != nil {
		t.Fatal(err)
	}
	var got, want []string
	for _, found := range regexp.MustCompile(`Reason = "(\w+)"`).FindAllSubmatch(source, -1) {
		got = append(got, string(found[1]))
	}
	for number, name := range pb.ErrorReason_name {
		if number != 0 {
			want = append(want, strings.TrimPrefix(name, "ERROR_REASON_"))
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("here %q, in the contract %q", got, want)
	}
}
