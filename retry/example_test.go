package retry_test

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/artifactofdevotion/devotion/retry"
)

func ExamplePolicy() {
	policy := retry.Policy{Base: 10 * time.Millisecond, Cap: time.Second, MaxAttempts: 3}
	if err := policy.Validate(); err != nil {
		fmt.Println(err)
		return
	}
	waits := policy.Backoff() // one for each series of failures
	for attempt := 1; ; attempt++ {
		fmt.Println("attempt", attempt)
		wait, giveUp := waits.Next()
		if giveUp {
			break
		}
		time.Sleep(wait)
	}
	// Output:
	// attempt 1
	// attempt 2
	// attempt 3
}

func ExampleClassify() {
	fmt.Println(retry.Classify(io.ErrUnexpectedEOF))
	fmt.Println(retry.Classify(fmt.Errorf("write: %w", &PgError{Code: "42P01"})))
	fmt.Println(retry.Classify(fmt.Errorf("write: %w", &PgError{Code: "23505"})))
	fmt.Println(retry.Classify(fmt.Errorf("write: %w", retry.Permanent(errors.New("no such bucket")))))
	// Output:
	// transient
	// setup
	// data
	// fatal
}

func ExampleText() {
	err := fmt.Errorf("orders: %w", &PgError{
		Code: "22P02", Message: `invalid input syntax for type integer: "bob's secret"`, TableName: "orders",
	})
	fmt.Println(retry.Text(err))
	// Output: orders: SQLSTATE 22P02: invalid text for its type (table orders)
}
