package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/late"
)

// audit watches the table for a while, or until ctx ends, and prints how many rows the
// copy would have missed.
func audit(ctx context.Context, t *sqlsource.Table, d time.Duration) error {
	r, err := late.Audit(ctx, t, late.Options{For: d})
	var unsafe *ceiling.UnsafeError
	if errors.As(err, &unsafe) {
		return unsafe
	}
	if err != nil {
		return errors.New(retry.Text(err))
	}
	fmt.Println(r)
	if r.Below.Late > 0 {
		return errCheck
	}
	return nil
}
