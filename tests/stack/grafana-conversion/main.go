// Converts classic dashboards as Grafana does when it loads them: v0 to v1 to v2, and back to v1. Each file is an argument; an
// error, what Grafana itself calls a loss, or a text that is not in v2, ends it with 1.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"

	"github.com/grafana/grafana/apps/dashboard/pkg/apis/dashboard/v0alpha1"
	"github.com/grafana/grafana/apps/dashboard/pkg/apis/dashboard/v1beta1"
	"github.com/grafana/grafana/apps/dashboard/pkg/apis/dashboard/v2beta1"
	"github.com/grafana/grafana/apps/dashboard/pkg/migration"
	"github.com/grafana/grafana/apps/dashboard/pkg/migration/conversion"
	"github.com/grafana/grafana/apps/dashboard/pkg/migration/testutil"
	"k8s.io/apimachinery/pkg/runtime"
)

func main() {
	sources := testutil.NewDataSourceProvider(testutil.StandardTestConfig)
	elements := testutil.NewLibraryElementProvider()
	migration.Initialize(sources, elements, migration.DefaultCacheTTL)
	scheme := runtime.NewScheme()
	err := conversion.RegisterConversions(scheme, sources, elements)
	for _, file := range os.Args[1:] {
		if err == nil {
			err = convert(scheme, file)
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", file, err)
			os.Exit(1)
		}
	}
}

func convert(scheme *runtime.Scheme, file string) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	classic, modern, latest, back := v0alpha1.Dashboard{}, v1beta1.Dashboard{}, v2beta1.Dashboard{}, v1beta1.Dashboard{}
	if err := json.Unmarshal(content, &classic.Spec.Object); err != nil {
		return err
	}
	for _, step := range [][2]any{{&classic, &modern}, {&modern, &latest}, {&latest, &back}} {
		if err := scheme.Convert(step[0], step[1], nil); err != nil {
			return err
		}
	}
	for _, status := range []any{modern.Status.Conversion, latest.Status.Conversion, back.Status.Conversion} {
		if text, _ := json.Marshal(status); reflect.ValueOf(status).Elem().FieldByName("Failed").Bool() {
			return fmt.Errorf("conversion failed: %s", text)
		}
	}
	var converted any
	if text, err := json.Marshal(latest.Spec); err != nil || json.Unmarshal(text, &converted) != nil {
		return fmt.Errorf("v2 cannot be written: %w", err)
	}
	there, texts := map[string]int{}, 0
	each(converted, func(_, text string) { there[text]++ })
	each(classic.Spec.Object, func(key, text string) {
		if !kept[key] {
			return
		}
		if texts, there[text] = texts+1, there[text]-1; there[text] < 0 && err == nil {
			err = fmt.Errorf("not in v2: %s %q", key, text)
		}
	})
	fmt.Printf("%s: %d texts\n", file, texts)
	return err
}

// kept are the keys whose texts must be in v2, as often as in the file, under whatever key.
var kept = map[string]bool{
	"title": true, "description": true, "expr": true, "url": true, "unit": true, "fixedColor": true, "legendFormat": true,
	"query": true, "allValue": true, "regex": true, "noValue": true, "text": true, "name": true, "label": true,
}

// each calls found for every text in a value, with the key that it has.
func each(value any, found func(key, text string)) {
	switch value := value.(type) {
	case map[string]any:
		for key, inner := range value {
			if text, ok := inner.(string); ok && text != "" {
				found(key, text)
			}
			each(inner, found)
		}
	case []any:
		for _, inner := range value {
			each(inner, found)
		}
	}
}
