package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source/sqlsource"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/late"
)

// audit watches the table for a while, or until ctx ends, and prints how many rows the
// copy would have missed, also if it ends early with an error.
func audit(ctx context.Context, t *sqlsource.Table, c config, _ *slog.Logger) error {
	r, err := late.Audit(ctx, t, late.Options{For: c.audit})
	var unsafe *ceiling.UnsafeError
	if errors.As(err, &unsafe) {
		return unsafe
	}
	if err != nil && r.Ceiling == "" { // nothing was read
		return errors.New(retry.Text(err))
	}
	if _, err := fmt.Println(r); err != nil {
		return err
	}
	switch {
	case err != nil && r.Below.Late > 0:
		return fmt.Errorf("%w; then the audit ended early: %s", errCheck, retry.Text(err))
	case err != nil:
		return fmt.Errorf("the audit ended early: %s", retry.Text(err))
	case r.Below.Late > 0:
		return errCheck
	}
	return nil
}
