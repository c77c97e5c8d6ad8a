package deploy_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"
)

// patience is how long anything may take on a busy machine. An alert that finds no
// Alertmanager is sent again after a minute.
const patience = 3 * time.Minute

// eventually waits until f returns nil.
func eventually(tb testing.TB, what string, f func() error) {
	tb.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatalf("waited %v for %s: %v", patience, what, err)
		}
	}
}

// get returns the body of an answer with status 200.
func get(ctx context.Context, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", url, resp.Status, body)
	}
	return body, err
}

// targets returns the health of each target of the Prometheus at an address, by
// job and instance.
func targets(ctx context.Context, prometheus string) (map[string]string, error) {
	body, err := get(ctx, prometheus+"/api/v1/targets")
	if err != nil {
		return nil, err
	}
	var answer struct {
		Data struct {
			ActiveTargets []struct {
				Labels map[string]string
				Health string
			}
		}
	}
	err = json.Unmarshal(body, &answer)
	targets := map[string]string{}
	for _, t := range answer.Data.ActiveTargets {
		targets[t.Labels["job"]+" "+t.Labels["instance"]] = t.Health
	}
	return targets, err
}
