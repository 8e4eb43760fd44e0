// Checks histories for linearizability with Porcupine (by Anish Athalye; the algorithm is that of Horn and Kroening,
// 2015).
//
// Each argument is a history: one operation a line, as tests/cluster/src/history.rs writes it. A key is a register with
// a revision: a write gives it a new value and a higher revision, and a condition is on the revision. Keys are
// independent, so each key is checked by itself.
//
// Exits with 1 when a history is not linearizable, or could not be decided in time.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"time"

	"github.com/anishathalye/porcupine"
)

// A history that is not decided within this time counts as failed.
const timeout = 60 * time.Second

// An operation, as it was called and answered.
type operation struct {
	Client int    `json:"client"`
	Key    string `json:"key"`
	Call   int64  `json:"call_ns"`
	// Null: no answer came, so the operation may take effect at any later time.
	Return *int64 `json:"return_ns"`
	// put, get or delete.
	Kind string `json:"kind"`
	// The value of a put.
	Value string `json:"value"`
	// The operation takes effect only if the key has this revision; 0: only if there is no such key; null: in any case.
	If *int64 `json:"if"`
	// done, failed (the condition did not hold) or unknown.
	Outcome string `json:"outcome"`
	// done: the revision of the put, or of what a get found. failed: the revision of what is there. 0: nothing is there.
	Revision int64 `json:"revision"`
	// The value that a get found.
	Got string `json:"got"`
	// Whether a delete deleted something.
	Deleted bool `json:"deleted"`
}

// The state of a key. The revision is 0 when the key was last written without anyone being told its revision.
type register struct {
	present  bool
	value    string
	revision int64
}

// Whether the register may have this revision.
func (r register) maybe(revision int64) bool {
	return r.present && (r.revision == revision || r.revision == 0)
}

// Whether the condition may hold, and whether it may fail.
func (r register) condition(wanted *int64) (may, mayNot bool) {
	switch {
	case wanted == nil:
		return true, false
	case *wanted == 0:
		return !r.present, r.present
	case !r.present:
		return false, true
	default:
		return r.maybe(*wanted), r.revision != *wanted
	}
}

// Every state that the key may have after the operation; none if the operation cannot have happened here.
func step(before register, o operation) []register {
	may, mayNot := before.condition(o.If)
	var after register
	switch o.Kind {
	case "get":
		if o.Revision == 0 && !before.present {
			return []register{before}
		}
		if o.Revision != 0 && before.maybe(o.Revision) && before.value == o.Got {
			return []register{{true, o.Got, o.Revision}}
		}
		return nil
	case "put":
		after = register{true, o.Value, o.Revision}
	}
	switch o.Outcome {
	case "done":
		isNew := o.Kind == "delete" || o.Revision > before.revision
		told := o.Kind == "put" || o.Deleted == before.present
		if may && isNew && told {
			return []register{after}
		}
		return nil
	case "failed":
		if mayNot && o.Revision == 0 && !before.present {
			return []register{before}
		}
		if mayNot && o.Revision != 0 && before.maybe(o.Revision) {
			return []register{{true, before.value, o.Revision}}
		}
		return nil
	}
	// Unknown: it took effect or its condition failed, and nobody was told a revision.
	var all []register
	if may {
		after.revision = 0
		all = append(all, after)
	}
	if mayNot {
		all = append(all, before)
	}
	return all
}

var model = (&porcupine.NondeterministicModel{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byKey := map[string][]porcupine.Operation{}
		for _, one := range history {
			key := one.Input.(operation).Key
			byKey[key] = append(byKey[key], one)
		}
		var parts [][]porcupine.Operation
		for _, part := range byKey {
			parts = append(parts, part)
		}
		return parts
	},
	Init: func() []any { return []any{register{}} },
	Step: func(state, input, output any) []any {
		var all []any
		for _, one := range step(state.(register), input.(operation)) {
			all = append(all, one)
		}
		return all
	},
	DescribeOperation: func(input, output any) string { return describe(input.(operation)) },
	DescribeState:     func(state any) string { return fmt.Sprintf("%+v", state) },
}).ToModel()

func describe(o operation) string {
	condition := ""
	if o.If != nil {
		condition = fmt.Sprintf(" if %d", *o.If)
	}
	return fmt.Sprintf("%s %s %s%s -> %s %d %s", o.Kind, o.Key, o.Value, condition, o.Outcome, o.Revision, o.Got)
}

func read(path string) ([]porcupine.Operation, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var history []porcupine.Operation
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		var one operation
		if err := json.Unmarshal(lines.Bytes(), &one); err != nil {
			return nil, fmt.Errorf("%s, operation %d: %w", path, len(history)+1, err)
		}
		returned := int64(math.MaxInt64)
		if one.Return != nil {
			returned = *one.Return
		}
		history = append(history, porcupine.Operation{ClientId: one.Client, Input: one, Call: one.Call, Return: returned})
	}
	return history, lines.Err()
}

func main() {
	bad, operations := 0, 0
	for _, path := range os.Args[1:] {
		history, err := read(path)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		operations += len(history)
		result, info := porcupine.CheckOperationsVerbose(model, history, timeout)
		if result != porcupine.Ok {
			bad++
			picture := path + ".html"
			if err := porcupine.VisualizePath(model, info, picture); err != nil {
				picture = err.Error()
			}
			fmt.Printf("%s: %s (picture: %s)\n", path, result, picture)
		}
	}
	fmt.Printf("%d histories, %d operations, %d not linearizable or not decided\n", len(os.Args)-1, operations, bad)
	if bad > 0 {
		os.Exit(1)
	}
}
